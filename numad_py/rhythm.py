# SPDX-License-Identifier: Apache-2.0

"""The steps of a process, as it tells their ends, and when it computes little between two of them.

Problem: pages on the move are in nobody's reach, so that a call which moves them lengthens the step that it falls into.
Primitive: the median time of a step, where the median deviation from it is small: one long step, or a word
that was lost, changes neither, and ends that come by chance have none.
Application: the actuator moves between the steps of a process where one of its last words says that a step ended.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

REPORTS: Final = 17  # in a row; of 16 times between ends that come by chance, 0.3 % look regular
IRREGULAR_SHARE: Final = 0.25  # of the median step, by which the median step may deviate
OVER_PERIODS: Final = 4.0  # without a word, after which it is doing something else
OVER_S: Final = 1.0  # and no less, since not every step is told


class Ended(NamedTuple):
    """The end of a step: when, how many there were until then, and the time between it and the one before."""

    time_s: float
    steps: float
    slack_s: float


@dataclass(frozen=True)
class Rhythm:
    """A step takes ``period_s`` with the ``slack_s`` that follow it; the last that was told ended at ``ended_s``."""

    period_s: float
    slack_s: float
    ended_s: float

    def has_slack(self, now_s: float, call_s: float) -> bool:
        """Say whether a call of that time would end before the next step begins."""
        return now_s + call_s <= self.ended_s + self.slack_s

    @property
    def next_s(self) -> float:
        """When the next step ends, at the earliest that is usual."""
        return self.ended_s + self.period_s

    def is_over(self, now_s: float) -> bool:
        """Say whether the process makes no steps any more, or none that it tells."""
        return now_s > self.ended_s + max(OVER_PERIODS * self.period_s, OVER_S)


@lru_cache(1024)  # moves that wait ask again and again
def found(ends: tuple[Ended, ...]) -> Rhythm | None:
    """Give the rhythm of the last ends, the newest last, where they have one."""
    time_s, steps, slack_s = np.array(ends[-REPORTS:], np.float64).reshape(-1, len(Ended._fields)).T
    made = np.diff(steps)
    if len(made) < REPORTS - 1 or (made <= 0).any():
        return None
    took_s = np.diff(time_s) / made
    period_s = np.median(took_s)
    if np.median(np.abs(took_s - period_s)) > IRREGULAR_SHARE * period_s:
        return None
    return Rhythm(float(period_s), float(np.quantile(slack_s, 0.25)), float(time_s[-1]))
