# SPDX-License-Identifier: Apache-2.0

"""What the steps of a job feel of being moved."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from numad_py.act.actuator import LiveActuator
from numad_py.kernel import migration
from numad_py.model import Plan
from numad_py.sense.reported import Reported
from numad_py.workers import Workers
from tests.vm.moving import LONG_S, SIZES, move_of
from tests.vm.running import Workload

TURN_S = 1.0  # of the loop, of which it moves for
ACTING_S = 0.8
LOOK_S = 0.5


@dataclass(frozen=True)
class Felt:
    """Begin, end and rounds of steps; begin and end of the calls that moved pages; and what the actuator said."""

    steps: np.ndarray
    calls: np.ndarray
    details: list[str]

    @property
    def round_s(self):
        """What a round took in the steps from the first call to the last."""
        hit = (self.steps[:, 1] > self.calls.min()) & (self.steps[:, 0] < self.calls.max())
        return round_s(self.steps[hit])

    @property
    def in_steps_share(self):
        """Of the calls, those that began in a step."""
        began_s, begin_s, end_s = self.calls[:, :1], self.steps[:, 0], self.steps[:, 1]
        return float(((begin_s <= began_s) & (began_s < end_s)).any(axis=1).mean())

    @property
    def moving_s(self):
        """From the first call to the end of the last."""
        return float(self.calls.max() - self.calls.min())


@contextmanager
def noted_calls() -> Iterator[list[tuple[float, float]]]:
    """Give begin and end of every call that moves pages meanwhile."""
    calls, move_pages = [], migration.move_pages

    def noted(*args, **how):
        began_s = time.monotonic()
        try:
            return move_pages(*args, **how)
        finally:
            calls.append((began_s, time.monotonic()))

    migration.move_pages = noted
    try:
        yield calls
    finally:
        migration.move_pages = move_pages


def await_rhythm(job: Workload, reported: Reported) -> None:
    """Wait until a job has told enough of its steps."""
    until_s = time.monotonic() + LONG_S
    while reported.rhythm(job.pid) is None:
        assert time.monotonic() < until_s, "a job of steps has no rhythm"
        time.sleep(LOOK_S)
        reported.look({1: (job.pid,)})


def steps(job: Workload) -> np.ndarray:
    """Give begin, end and rounds of each step since this was last asked."""
    return np.array(job.ask("steps")[1:], float).reshape(-1, 3)


def round_s(steps: np.ndarray) -> np.ndarray:
    """Give what a round of each step took."""
    return (steps[:, 1] - steps[:, 0]) / steps[:, 2]


def move(job: Workload, rhythm, target: int) -> Felt:
    """Move all memory of a job, in turns as the loop does; ``rhythm`` is what the actuator knows of it."""
    actuator = LiveActuator(Workers(patience_s=LONG_S), SIZES, deadline_s=ACTING_S, rhythm=rhythm)
    wish = move_of(job, source=1 - target, target=target)
    left_bytes = job.end - job.start
    steps(job)
    details = []
    with noted_calls() as calls:
        while left_bytes:
            began_s = time.monotonic()
            (outcome,) = actuator.move(Plan((wish,)))
            left_bytes -= outcome.moved_bytes
            details.append(outcome.detail)
            time.sleep(max(began_s + TURN_S - time.monotonic(), 0))
    return Felt(steps(job), np.array(calls), details)
