# SPDX-License-Identifier: Apache-2.0

"""Choose how often to sample, so that neither we nor the job pay more than was agreed.

Problem: a process may take ten page faults a second, or a million; nobody knows before.
Primitive: the kernel stops each event by itself once it has taken the samples granted for a
window, so that one window costs little whatever happens in it.
Application: a window that ran out multiplies the period; a quiet one halves it; lost records
multiply it too, and end the sampling when they go on; windows are as long as it takes for reading
them to stay within our budget; and what a job has lost to sampling is
kept within a share of the time by pauses, in which no event is open at all.
"""

from dataclasses import dataclass, replace
from typing import Final

GRANTED: Final = 128  # samples of each event in a window
LEAST_WINDOW_S: Final = 0.05

_FACTOR: Final = 2
_MOST_FACTOR: Final = 16  # three windows from sampling everything to one in four thousand
_QUIET_SHARE: Final = 0.25
_LOSSES: Final = 5  # windows in a row


@dataclass(frozen=True)
class Window:
    """What came of one window: samples of the busiest event, and whether records were lost.

    ``seen_share`` is how much of the window had passed when the first event ran out; 1 where none did.
    """

    samples: int
    lost: bool
    length_s: float
    seen_share: float


@dataclass(frozen=True)
class Rate:
    """One sample every ``period`` events; ``losses`` windows in a row lost records."""

    period: int
    least: int
    most: int
    losses: int = 0

    @property
    def hopeless(self) -> bool:
        """Whether records go on being lost, so that sampling should end."""
        return self.losses >= _LOSSES

    def after(self, window: Window) -> "Rate":
        """Give the rate of the next window."""
        losses = self.losses + 1 if window.lost else 0
        if window.lost or window.samples >= GRANTED:
            period = self.period * _slower(0.0 if window.lost else window.seen_share)
        elif window.samples < _QUIET_SHARE * GRANTED:
            period = self.period // _FACTOR
        else:
            period = self.period
        return replace(self, period=min(max(period, self.least), self.most), losses=losses)


def _slower(seen_share: float) -> int:
    """Give the factor that would have used half of what was granted, had the window gone on as it began."""
    factor = _FACTOR
    while factor < _MOST_FACTOR and factor * seen_share < _FACTOR:
        factor *= _FACTOR
    return factor


def window_s(spent_s: float, *, budget_share: float) -> float:
    """Give how long a window must be, so that reading it takes no more than a share of one core."""
    return max(spent_s / budget_share, LEAST_WINDOW_S)


def pause_s(cost_s: float, passed_s: float, *, job_share: float) -> float:
    """Give how long no event may be open, so that what the job lost stays within a share of all the time."""
    return max(cost_s / job_share - passed_s, 0.0)
