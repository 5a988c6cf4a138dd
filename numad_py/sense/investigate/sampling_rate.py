# SPDX-License-Identifier: Apache-2.0

"""Choose how often to sample, so that neither we nor the job pay more than was agreed.

Problem: a process may take ten page faults a second, or a million; nobody knows before.
Primitive: the kernel stops each event by itself once it has taken the samples granted for a
window, so that one window costs little whatever happens in it.
Application: the period is what would have used half of the grant in the busiest window of late,
since hint faults come in bursts; lost records lengthen it, and end the sampling when they go on;
windows are as long as it takes for reading them to stay within our budget; and what a job has lost
to sampling is kept within a share of the time by pauses, in which no event is open at all.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

GRANTED: Final = 128  # samples of each event in a window
LEAST_WINDOW_S: Final = 0.05

_REMEMBERED_SHARE: Final = 0.8  # of the busiest window's events, from one window to the next
_LEAST_SEEN_SHARE: Final = 1 / 16  # a burst of a moment says little of the whole window
_LOST_FACTOR: Final = 16
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
    """One sample every ``period`` events, a power of two.

    ``peak`` is how many events the busiest window of late had; ``losses`` windows in a row lost records.
    """

    period: int
    least: int
    most: int
    peak: float = 0.0
    losses: int = 0

    @property
    def hopeless(self) -> bool:
        """Whether records go on being lost, so that sampling should end."""
        return self.losses >= _LOSSES

    def after(self, window: Window) -> "Rate":
        """Give the rate of the next window."""
        events = window.samples * self.period / max(window.seen_share, _LEAST_SEEN_SHARE)
        peak = max(events, self.peak * _REMEMBERED_SHARE)
        if window.lost:
            peak = max(peak, self.period * _LOST_FACTOR * GRANTED / 2)
        period = 1 << max(math.ceil(2 * peak / GRANTED) - 1, 0).bit_length()
        losses = self.losses + 1 if window.lost else 0
        return replace(self, period=min(max(period, self.least), self.most), peak=peak, losses=losses)


def window_s(spent_s: float, *, budget_share: float) -> float:
    """Give how long a window must be, so that reading it takes no more than a share of one core."""
    return max(spent_s / budget_share, LEAST_WINDOW_S)


def pause_s(cost_s: float, passed_s: float, *, job_share: float) -> float:
    """Give how long no event may be open, so that what the job lost stays within a share of all the time."""
    return max(cost_s / job_share - passed_s, 0.0)
