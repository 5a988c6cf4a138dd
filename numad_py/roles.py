# SPDX-License-Identifier: Apache-2.0

"""The four roles in the loop; the live machine and the simulated one both play them."""

from typing import Protocol

from numad_py.model import Explanation, Outcome, Plan, ProcessKey, Snapshot, Tick, Waits


class Sensor(Protocol):
    """Looks at the machine."""

    def look(self) -> Snapshot:
        """Take one snapshot."""
        ...


class Policy(Protocol):
    """Chooses moves. Must not touch the machine, the clock, or global state.

    The same snapshots must always give the same plans: that is what makes a
    recorded day replayable and a simulated result trustworthy.
    """

    def decide(self, snapshot: Snapshot) -> Plan:
        """Say what should move now."""
        ...

    def review(self, tick: Tick) -> None:
        """See what came of the last plan. Most policies need not care."""
        return

    def waits(self) -> Waits:
        """Give what must outlive a restart. Most policies keep nothing."""
        return Waits()

    def recall(self, waits: Waits) -> None:
        """Take what another policy gave before a restart."""
        return

    def explain(self, key: ProcessKey) -> Explanation | None:
        """Say what was decided of a process at the last look; None where that is not known."""
        return None


class Actuator(Protocol):
    """Carries out moves."""

    def move(self, plan: Plan) -> tuple[Outcome, ...]:
        """Carry out what can be done by the deadline; answer every move in order, then every move of tasks."""
        ...


class Clock(Protocol):
    """Waits, in real or simulated seconds."""

    def wait(self, period_s: float) -> bool:
        """Wait for the next turn, and return whether the loop should go on."""
        ...
