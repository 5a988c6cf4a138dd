# SPDX-License-Identifier: Apache-2.0

"""A share over time in a bounded number of points, however long the run."""

from itertools import zip_longest

BARS = "▁▂▃▄▅▆▇█"


class Timeline:
    """Means of equally many ticks each; when it is full, every two neighbours become one."""

    def __init__(self, most_points: int) -> None:
        self._most_points = most_points
        self._span = 1
        self._points: list[tuple[int, int, float]] = []  # ticks, ticks with a share, sum of shares

    def add(self, share: float | None) -> None:
        """Add the share of one tick; None where it had none."""
        if not self._points or self._points[-1][0] == self._span:
            self._make_room()
            self._points.append((0, 0, 0.0))
        ticks, known, total = self._points[-1]
        self._points[-1] = (ticks + 1, known + (share is not None), total + (share or 0.0))

    @property
    def shares(self) -> tuple[float | None, ...]:
        """The mean of each point's ticks; None where none of them had a share."""
        return tuple(total / known if known else None for _, known, total in self._points)

    def _make_room(self) -> None:
        if len(self._points) == self._most_points:
            pairs = zip_longest(self._points[::2], self._points[1::2], fillvalue=(0, 0, 0.0))
            self._points = [(a + d, b + e, c + f) for (a, b, c), (d, e, f) in pairs]
            self._span *= 2


def sparkline(shares: tuple[float | None, ...]) -> str:
    """Draw shares as bars from nothing to full height; a space where there is none."""
    return "".join(" " if share is None else BARS[round(share * (len(BARS) - 1))] for share in shares)


def halved(shares: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Make one point of every two, for where there is less room."""
    pairs = (
        [share for share in shares[first : first + 2] if share is not None]
        for first in range(0, len(shares), 2)
    )
    return tuple(sum(pair) / len(pair) if pair else None for pair in pairs)
