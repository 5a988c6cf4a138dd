# SPDX-License-Identifier: Apache-2.0

"""What repetitions of one measurement come to, and which measurements there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Quantity(StrEnum):
    """What is measured of a pair of nodes."""

    LATENCY = "latency"
    READ = "read"
    WRITE = "write"
    COPY = "copy"
    READ_TOGETHER = "read together"
    WRITE_TOGETHER = "write together"
    COPY_TOGETHER = "copy together"


@dataclass(frozen=True)
class Figure:
    """A median, and the width of the middle half of the repetitions over it."""

    median: float
    spread_share: float


@dataclass(frozen=True)
class Effort:
    """How often and for how long one cell is measured; the first repetition warms up and does not count."""

    repetitions: int
    steps: int
    window_s: float


THOROUGH = Effort(repetitions=11, steps=200_000, window_s=0.1)
QUICK = Effort(repetitions=5, steps=100_000, window_s=0.05)


def figure(values: Sequence[float]) -> Figure:
    """Sum up repetitions, of which there is at least one, none of them 0."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return Figure(float(median), float((high - low) / median))
