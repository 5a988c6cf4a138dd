# SPDX-License-Identifier: Apache-2.0

"""Tell which memory of a job is hot, and no more, where nothing else can watch: by the kernel's idle-page tracking.

Problem: without DAMON and without samples not even the heat of memory is known.
Primitive: a page that is marked idle, and is no longer so some seconds later, was accessed meanwhile, by whomever.
Application: of each piece of a process the same number of pages is drawn and marked once, so that a piece's count
is the number of its pages that were accessed, out of ``PAGES``.

No kernel that it was developed on has idle-page tracking: it was tried on files made by the kernel's documentation.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import hugepages, page_idle
from numad_py.model import Accesses, AccessSource, Process, ProcessKey, ThreadGroup
from numad_py.sense.investigate.damon_watch import cut
from numad_py.topology import Addresses, Ints, Topology

PAGES: Final = 32  # drawn of each piece
PIECES: Final = 256  # of all processes together, so that one marking takes some 60 ms
FEWEST: Final = 4  # of any

_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, eq=False)
class _Marked:
    """One process's pieces, shape (pieces, 2), and the pages drawn of them: address, frame, and whose piece."""

    pieces: Addresses
    address: Addresses
    frame: Addresses
    piece: Ints


class IdlePages:
    """Watches processes for some seconds. Needs a kernel built with it, and CAP_SYS_ADMIN, which shows frames."""

    sees_shared: Final = False  # a page was accessed, by whomever

    def __init__(self, topology: Topology, *, root: Path = Path("/")) -> None:
        self._topology = topology
        self._root = root
        self._random = np.random.default_rng()
        self._marked: dict[ProcessKey, _Marked] = {}
        self._began_s = self._cost_s = 0.0
        self.problems: list[str] = []

    @property
    def cost_s(self) -> float:
        """CPU seconds since the last start."""
        return self._cost_s

    def start(self, processes: Sequence[Process]) -> bool:
        """Mark pages of each process; False where that cannot be."""
        self.stop()
        self.problems, self._cost_s, self._began_s = [], 0.0, time.monotonic()
        if not (self._root / page_idle.BITMAP).exists():
            return False
        began_s = time.thread_time()
        pieces = max(PIECES // max(len(processes), 1), FEWEST)
        for process in processes:
            try:
                self._mark(process, pieces)
            except _GONE:
                continue
            except PermissionError as error:
                self.problems.append(f"idle-page tracking: {error}")
                return False
        self._cost_s += time.thread_time() - began_s
        return bool(self._marked)

    def _mark(self, process: Process, most_pieces: int) -> None:
        pieces = cut(process.regions, most_pieces)
        span = (pieces[:, 1] - pieces[:, 0]) // np.uint64(self._topology.page_bytes)
        drawn = (self._random.random((len(pieces), PAGES)) * span[:, None]).astype(np.uint64)
        address = (pieces[:, :1] + drawn * np.uint64(self._topology.page_bytes)).ravel()
        frame = self._frames(process.key, address)
        there = frame > 0
        if there.any():
            page_idle.mark(frame[there], self._root)
            piece = np.repeat(np.arange(len(pieces)), PAGES)[there]
            self._marked[process.key] = _Marked(pieces, address[there], frame[there], piece)

    def _frames(self, key: ProcessKey, address: Addresses) -> Addresses:
        sizes = {"page_bytes": self._topology.page_bytes, "huge_bytes": hugepages.pmd_bytes(self._root)}
        return page_idle.frames(key.pid, address, **sizes, root=self._root)

    def is_settled(self) -> bool:
        """Say that it never is: a page that is still idle may be accessed later."""
        return False

    def collect(self) -> Mapping[ProcessKey, Accesses]:
        """Give, by process, how many of the pages marked in each piece were accessed, by whomever."""
        began_s = time.thread_time()
        found = {}
        for key, marked in self._marked.items():
            try:
                accessed = ~page_idle.idle(marked.frame, self._root)
                accessed &= (
                    self._frames(key, marked.address) == marked.frame
                )  # else the frame is another's by now
            except _GONE:
                continue
            count = np.bincount(marked.piece[accessed], minlength=len(marked.pieces))
            found[key] = self._accesses(marked, count)
        self._cost_s += time.thread_time() - began_s
        return found

    def _accesses(self, marked: _Marked, count: Ints) -> Accesses:
        nobody = ThreadGroup(None, np.zeros(0, np.int64), np.zeros(len(self._topology.nodes)))
        start, end = marked.pieces.T.copy()
        period_s = time.monotonic() - self._began_s
        return Accesses(AccessSource.IDLE_PAGES, (nobody,), start, end, count[:, None], PAGES, period_s)

    def stop(self) -> None:
        """Forget what was marked; a mark does no harm, and is gone at the page's next access."""
        self._marked = {}
