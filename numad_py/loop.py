# SPDX-License-Identifier: Apache-2.0

"""The loop, written once for both worlds."""

from collections.abc import Iterator
from typing import Final

from numad_py.model import Tick
from numad_py.roles import Actuator, Clock, Policy, Sensor

ACTING_SHARE: Final = 0.8  # of a period, for which moves may take place in a turn


def ticks(
    sensor: Sensor, policy: Policy, actuator: Actuator, clock: Clock, *, period_s: float
) -> Iterator[Tick]:
    """Yield every turn of the loop until the clock says stop.

    The caller decides what a tick is for: the daemon logs and records it, the
    simulator scores it, a test looks at it.
    """
    while clock.wait(period_s):
        snapshot = sensor.look()
        plan = policy.decide(snapshot)
        answers, moves = actuator.move(plan), len(plan.moves)
        tick = Tick(snapshot, plan, answers[:moves], answers[moves:])
        policy.review(tick)
        yield tick
