# SPDX-License-Identifier: Apache-2.0

"""Notice when moving pages makes, or would make, the kernel take memory from those who use it.

Problem: a page that moves to a full node makes the kernel reclaim there, which
can write out and swap, for as long as the call lasts.
Primitive: what a node can give without harm, free memory above its high
watermark, where kswapd sleeps, and clean inactive page cache that is not
mapped, while there is plenty of it; and what the kernel counts as reclaimed.
Application: no batch begins that would not fit, and none follows one during
which anything was swapped out, or direct reclaim looked at many pages in vain.
"""

import os
import threading
import time
from pathlib import Path

from numad_py.kernel import node_sysfs, vmstat

WASTED_PAGES = 64  # two of the kernel's own reclaim rounds, SWAP_CLUSTER_MAX each
FRESH_S = 0.02  # for which an answer of the kernel holds: about one call
# With less inactive cache than 1 << DEF_PRIORITY pages, kswapd turns to anonymous memory as well, and swaps
# (cache_trim_mode in mm/vmscan.c, 5.8 and later). Twice that, for what two workers send at once.
SPARED_PAGES = 2 << 12
_WHOLE = 1 << 16  # bytes; more than either file has


class Reclaim:
    """Compares /proc/vmstat with what it was when a move began, and a batch with its target.

    Asked between any two calls of all workers, so it reads and parses no more than it must.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        pages = node_sysfs.watermarks((root / "proc/zoneinfo").read_bytes())
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._spared_bytes = SPARED_PAGES * page_bytes
        self._high_watermark_bytes = {node: high * page_bytes for node, high in pages.items()}
        self._lock = threading.Lock()
        self._room: dict[int, tuple[float, int]] = {}  # when it was read, and the bytes left of it
        self.begin()

    def begin(self) -> None:
        """Start to count from here; moves that others began go on."""
        with self._lock:
            self._before = self._counters()
            self._harm = (float("-inf"), False)  # when it was read, and what was found

    def fits(self, batch_bytes: int, target: int) -> bool:
        """Say whether the target can take so much and harm nobody, and count it as taken."""
        now_s = time.monotonic()
        with self._lock:
            read_s, left_bytes = self._room.get(target, (float("-inf"), 0))
            if now_s - read_s > FRESH_S:
                read_s, left_bytes = now_s, self._room_bytes(target)
            self._room[target] = read_s, left_bytes - batch_bytes
        return batch_bytes <= left_bytes

    def hurts(self) -> bool:
        """Say whether anything was swapped out, or direct reclaim looked in vain, since ``begin``."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._harm[0] > FRESH_S:
                self._harm = now_s, self._harmed()
            return self._harm[1]

    def _room_bytes(self, target: int) -> int:
        memory = node_sysfs.meminfo(self._read(f"sys/devices/system/node/node{target}/meminfo"))
        in_use = memory["Mapped"] + memory["Dirty"] + memory["Writeback"]
        clean = max(memory["Inactive(file)"] - in_use - self._spared_bytes, 0)
        return memory["MemFree"] - self._high_watermark_bytes.get(target, 0) + clean

    def _harmed(self) -> bool:
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
