# SPDX-License-Identifier: Apache-2.0

"""What a policy is that only the simulator runs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from numad_py.model import ProcessKey
from numad_py.roles import Policy

AS_LONG_AS_IT_TAKES_S = 1e9


class Baseline(Policy):
    """Another's rules, to be compared with: without a guard, the sight of a sensor, and the deadline of a daemon's turn.

    ``call_ns`` is what a move costs before its first page; None for what a moving call costs. ``stalled_s`` is the
    time of processes that the last turn cost besides its moves.
    """

    deadline_s: ClassVar[float] = AS_LONG_AS_IT_TAKES_S
    call_ns: ClassVar[int | None] = None
    stalled_s: Mapping[ProcessKey, float] = MappingProxyType({})
