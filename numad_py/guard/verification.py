# SPDX-License-Identifier: Apache-2.0

"""Say whether a job became slower, by its own speed before and after, against its own variation.

Problem: jobs vary by themselves, from look to look, in bursts, in phases, and over hours; no figure says beforehand
by how much.
Primitive: the difference of the medians of a few looks before and after. The same difference between neighbouring
stretches of the job's own past, in which nothing was moved, says how large it is for no reason.
Application: a difference counts if it is twice the largest of those, and over a least share; with empty moves that is
rare, whatever the noise (`tests/unit/guard/test_verification.py`).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from numad_py.model import Job, Verdict
from numad_py.topology import Floats

STRETCH: Final = 5  # looks whose median is compared
LOOKS_BEFORE: Final = 16  # at least: there are 7 pairs of neighbouring stretches in them, most overlapping
LOOKS_AFTER: Final = 12
KEPT: Final = 40
LEAST_SHARE: Final = 0.03  # of the speed before: the simulator's own bound of what is not worse
TIMES_VARIATION: Final = 2.0
COUNTED_AGAIN_S: Final = (
    60.0  # by when who is counted is counted again: with many jobs, not every look counts
)


def compare(before: Sequence[float], after: Sequence[float]) -> tuple[Verdict, dict[str, float]]:
    """Judge speeds by look before and after, and say by what figures; less than enough of them verifies nothing."""
    figures = {"looks_before": float(len(before)), "looks_after": float(len(after))}
    if len(before) < LOOKS_BEFORE or len(after) < LOOKS_AFTER:
        return Verdict.UNVERIFIED, figures
    levels, found = _medians(before), _medians(after)
    usual, change = float(levels[-1]), float(found[0] - levels[-1])
    variation = max(_largest_difference(levels), _largest_difference(found))
    least = max(LEAST_SHARE * usual, TIMES_VARIATION * variation)
    every = max(usual, 1e-9)  # who waited all the time had no speed
    figures |= {"speed_change_share": change / every, "own_variation_share": variation / every}
    if change < -least:
        return Verdict.TAKEN_BACK, figures
    return (Verdict.HELPED if change > least else Verdict.NO_DIFFERENCE), figures


def _medians(speeds: Sequence[float]) -> Floats:
    """Give the median of each stretch, in order."""
    stretches = np.lib.stride_tricks.sliding_window_view(np.array(speeds), STRETCH)
    medians: Floats = np.median(stretches, axis=1)
    return medians


def _largest_difference(medians: Floats) -> float:
    """Give the largest difference between a stretch and the one that follows it."""
    return float(np.abs(medians[STRETCH:] - medians[:-STRETCH]).max())


class Speedometer:
    """Reads a job's speed: progress by second where it reports that, else what share of cycles does not wait.

    ``source`` says which; nothing where neither is to be had. Counters count only where calibration verified them:
    cycles per instruction say nothing of work where threads spin, and so are not looked at.
    """

    def __init__(self) -> None:
        self.source = ""
        self._progress: tuple[float, float] | None = None  # when, how far
        self._counted_s = -math.inf

    def read(self, job: Job, now_s: float) -> tuple[float, float] | None:
        """Give the speed since when, where a new one is to be had."""
        if job.progress is not None:
            self.source = "progress"
            return self._by_progress(job.progress, now_s - job.progress_age_s)
        counters, self._progress = job.counters, None
        if counters is None or not counters.verified or counters.stall_share is None:
            self.source = self.source if now_s < self._counted_s + COUNTED_AGAIN_S else ""
            return None
        self.source, self._counted_s = "counters", now_s
        return 1 - counters.stall_share, now_s - counters.period_s

    def _by_progress(self, progress: float, time_s: float) -> tuple[float, float] | None:
        """Give progress by second since it was heard of last; steps longer than a look make a speed each."""
        last = self._progress
        if last is not None and last[1] <= progress and (progress == last[1] or time_s <= last[0]):
            return None
        self._progress = time_s, progress
        if last is None or progress < last[1]:
            return None
        return (progress - last[1]) / (time_s - last[0]), last[0]
