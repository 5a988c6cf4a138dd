# SPDX-License-Identifier: Apache-2.0

"""Notice when moving pages makes, or would make, the kernel take memory from those who use it.

Problem: a page that moves to a full node makes the kernel reclaim there, which
can write out and swap, for as long as the call lasts.
Primitive: what a node can give without harm, free memory above its high
watermark, where kswapd sleeps, and clean inactive page cache; and what the
kernel counts as reclaimed.
Application: no batch begins that would not fit, and none follows one during
which anything was swapped out, or direct reclaim looked at many pages in vain.
"""

import os
from pathlib import Path

from numad_py.kernel import node_sysfs, vmstat

WASTED_PAGES = 64  # two of the kernel's own reclaim rounds, SWAP_CLUSTER_MAX each
_WHOLE = 1 << 16  # bytes; more than either file has


class Reclaim:
    """Compares /proc/vmstat with what it was when a move began, and a batch with its target.

    Asked between any two calls, so it reads and parses no more than it must.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        pages = node_sysfs.watermarks((root / "proc/zoneinfo").read_bytes())
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._high_watermark_bytes = {node: high * page_bytes for node, high in pages.items()}
        self.begin()

    def begin(self) -> None:
        """Start to count from here."""
        self._before = self._counters()

    def fits(self, batch_bytes: int, target: int) -> bool:
        """Say whether the target can take so much and harm nobody."""
        memory = node_sysfs.meminfo(self._read(f"sys/devices/system/node/node{target}/meminfo"))
        clean = max(memory["Inactive(file)"] - memory["Dirty"] - memory["Writeback"], 0)
        free = memory["MemFree"] - self._high_watermark_bytes.get(target, 0)
        return batch_bytes <= free + clean

    def hurts(self) -> bool:
        """Say whether anything was swapped out, or direct reclaim looked in vain, since ``begin``."""
        now = self._counters()
        swapped, scanned, stolen = (after - before for after, before in zip(now, self._before, strict=True))
        # Clean page cache that makes room is no harm: what reclaim looks at, it frees.
        return swapped > 0 or scanned - stolen > WASTED_PAGES

    def _counters(self) -> tuple[int, int, int]:
        text = self._read("proc/vmstat")
        return (
            vmstat.counter(text, b"pswpout"),
            vmstat.counter(text, b"pgscan_direct"),
            vmstat.counter(text, b"pgsteal_direct"),
        )

    def _read(self, path: str) -> bytes:
        file = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, _WHOLE)
        finally:
            os.close(file)
