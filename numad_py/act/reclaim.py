# SPDX-License-Identifier: Apache-2.0

"""Notice when moving pages makes the kernel take memory from those who use it."""

from pathlib import Path

from numad_py.kernel import vmstat


class Reclaim:
    """Compares /proc/vmstat with what it was when a move began.

    Clean page cache that makes room is no harm: every page that direct reclaim
    looks at is also freed. Harm is swapping, or looking at many pages that
    cannot be freed: dirty, anonymous, or in use.
    """

    WASTED_PAGES = 64  # two of the kernel's own reclaim rounds, SWAP_CLUSTER_MAX each

    def __init__(self, root: Path) -> None:
        self._root = root
        self.begin()

    def begin(self) -> None:
        """Start to count from here."""
        self._before = vmstat.read(self._root)

    def hurts(self) -> bool:
        """Say whether anything was swapped out, or direct reclaim looked in vain."""
        now = vmstat.read(self._root)
        swapped = self._grown(now, "pswpout")
        wasted = self._grown(now, "pgscan_direct") - self._grown(now, "pgsteal_direct")
        return swapped > 0 or wasted > self.WASTED_PAGES

    def _grown(self, now: dict[str, int], counter: str) -> int:
        return now.get(counter, 0) - self._before.get(counter, 0)
