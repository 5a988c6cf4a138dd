# SPDX-License-Identifier: Apache-2.0

"""Time in a bounded number of columns, however long the run: sums over equally many ticks each."""

from typing import Final

import numpy as np

from numad_py.topology import Floats

POINTS: Final = 300  # an even number


class Columns:
    """When all columns are full, every two neighbours become one, and whoever sums by column is told to `fold`."""

    def __init__(self) -> None:
        self.used = 0
        self.ticks = np.zeros(POINTS)
        self.begun_s = np.zeros(POINTS)
        self._span = 1

    @property
    def full(self) -> bool:
        """Whether the next tick finds no column."""
        return bool(self.ticks[-1] == self._span)

    def halve(self) -> None:
        """Make room by making one column of every two."""
        self.begun_s[: POINTS // 2] = self.begun_s[::2]
        fold(self.ticks)
        self.used, self._span = POINTS // 2, self._span * 2

    def step(self, time_s: float) -> int:
        """Take a tick, and give its column."""
        if not self.used or self.ticks[self.used - 1] == self._span:
            self.begun_s[self.used] = time_s
            self.used += 1
        self.ticks[self.used - 1] += 1
        return self.used - 1


def fold(sums: Floats) -> None:
    """Add up every two columns, in place."""
    sums[: POINTS // 2] = sums[::2] + sums[1::2]
    sums[POINTS // 2 :] = 0


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    shares: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares
