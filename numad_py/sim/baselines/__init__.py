# SPDX-License-Identifier: Apache-2.0

"""What a policy should beat: models of what others do, and of what could be done; for the simulator alone.

None of them is held back by the daemon's guard, or by the deadline of its turns.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from numad_py.model import Tick
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.baselines.greedy import Greedy
from numad_py.sim.baselines.kernel_balancing import KernelBalancing
from numad_py.sim.baselines.numad import Numad
from numad_py.sim.baselines.static_binding import BestStaticBinding
from numad_py.sim.cost import Prices

Again = Callable[[], Iterable[Tick]]

BASELINES: Final[Mapping[str, Callable[[Prices, Again], Baseline]]] = {
    "kernel-balancing": lambda _prices, _again: KernelBalancing(),
    "numad": lambda _prices, _again: Numad(),
    "best-static-binding": lambda prices, again: BestStaticBinding(prices, again()),
    "greedy": lambda prices, _again: Greedy(prices),
}
"""How to make each, by name, of prices and of what reads the trace from its begin."""
