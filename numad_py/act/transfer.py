# SPDX-License-Identifier: Apache-2.0

"""One move under way: its pages sent batch by batch, every one accounted for.

Problem: one call that moves a process blocks it for seconds, ends at the first
page that cannot move, and says little about the rest.
Primitive: a batch of pages of one size, moved in a call of some 20 ms; where the
call did not say that all arrived, the kernel is asked again where each page is,
and what stayed is tried once more.
Application: the ranges are cut into chunks of address space, which workers take
in order until the ranges, the bytes allowed, or the time are used up.
"""

import errno
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from numad_py.act.batch_size import TARGET_S, BatchSize
from numad_py.act.gate import Gate
from numad_py.act.pace import LOOK_S, Pace
from numad_py.act.pages import Pages, Sizes, misplaced
from numad_py.act.reclaim import Reclaim
from numad_py.kernel import migration, numa_maps, placement, proc_stat
from numad_py.kernel.identity import OpenProcess, Still
from numad_py.model import Ending, Mempolicy, MovePages, Outcome
from numad_py.topology import Addresses
from numad_py.workers import came_back

CHUNK_BYTES = 32 << 20
THREADS = 2  # which take chunks of one move

_NOT_ALIKE = {Still.GONE: Ending.GONE, Still.EXECED: Ending.UNKNOWN}


class Transfer:
    """Carries out one move; several workers may take chunks of it at once."""

    def __init__(
        self,
        move: MovePages,
        process: OpenProcess,
        sizes: Sizes,
        batch: BatchSize,
        reclaim: Reclaim,
        gate: Gate | None = None,
        *,
        pace: Pace,
    ) -> None:
        self.chunks = list(cut(move, sizes))
        self._move = move
        self._process = process
        self._sizes = sizes
        self._batch = batch
        self._reclaim = reclaim
        self._gate = gate or Gate()
        self._pace = pace
        self._lock = threading.Lock()
        self._left_bytes = move.limit_bytes
        self._too_large_bytes = 0  # a page that had to stay for the limit
        self._done = [False] * len(self.chunks)
        self._ending: tuple[Ending, str] | None = None
        self._moved_bytes = 0
        self._failed: Counter[str] = Counter()
        self._stayed: list[tuple[Addresses, int]] = []
        self._call_s: list[float] = []
        self._suspecting = True  # huge pages, where only trying can tell

    def end(self, ending: Ending, detail: str = "") -> None:
        """Let every worker stop before its next call; the first reason stands."""
        with self._lock:
            self._ending = self._ending or (ending, detail)

    def end_by(self, error: OSError) -> None:
        """Stop because the kernel said no."""
        kinds = {errno.ESRCH: Ending.GONE, errno.ENOENT: Ending.GONE, errno.ENOMEM: Ending.NO_ROOM}
        self.end(kinds.get(error.errno or 0, Ending.REFUSED), str(error))

    @contextmanager
    def _else_unknown(self) -> Iterator[None]:
        """Ask where pages are now that were just sent: where that fails, what moved cannot be known."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.ESRCH:
                self.end(Ending.UNKNOWN, str(error))
            raise

    @property
    def unfinished(self) -> list[int]:
        """The chunks that are worth another turn, since there is time, allowance and no reason to stop."""
        left = self._ending is None and self._left_bytes >= self._sizes.base_bytes
        return [index for index, done in enumerate(self._done) if left and not done]

    @property
    def fits_one_call(self) -> bool:
        """Whether migrate_pages may carry it out: all of the process, in one short call."""
        pages = self._move.limit_bytes / self._sizes.base_bytes
        short = pages * self._batch.page_s(self._sizes.base_bytes) <= TARGET_S
        return self._move.whole and len(self._move.targets) == 1 and short

    def by_process(self) -> None:
        """Move everything at once with migrate_pages, and ask what stayed; leave it where that is more than was meant."""
        if not (self._alike() and self._is_small() and self._await_turn() and self._is_still_whole()):
            return
        before = _bytes(self._misplaced(self.chunks))
        if not self._alike() or not self._has_room(before, self._move.targets[0]):
            return
        began_s = time.monotonic()
        try:
            migration.migrate_pages(self._move.process.pid, self._move.sources, self._move.targets[0])
        except OSError as error:  # as in _call()
            self.end_by(error)
        self._call_s.append(time.monotonic() - began_s)
        with self._else_unknown():
            stayed = list(self._misplaced(self.chunks))
        if not self._alike():
            return
        self._moved_bytes += before - _bytes(stayed)
        if self._ending is not None:
            return
        for pages in stayed:
            untouched = np.full(len(pages.address), migration.UNTOUCHED, np.int32)
            self._set_aside(pages.page_bytes, pages.address, untouched)
        self._done = [True] * len(self.chunks)

    def _is_small(self) -> bool:
        """Whether the process has no more than a chunk: to walk all of it takes long, wherever it is."""
        return proc_stat.read(self._move.process.pid).rss_pages * self._sizes.base_bytes <= CHUNK_BYTES

    def _is_still_whole(self) -> bool:
        """Whether the process has no more than the move is for: migrate_pages knows no ranges, no limit, and asks nobody."""
        move, base_bytes = self._move, self._sizes.base_bytes
        found = numa_maps.parse(numa_maps.read(move.process.pid), move.sources, base_bytes)
        size_bytes = found.pages.sum(axis=1) * found.page_bytes
        held = np.flatnonzero(size_bytes)
        row = move.start.searchsorted(found.start[held], side="right") - 1
        meant = (row >= 0) & (found.start[held] < move.end[row])
        meant &= np.isin(found.mempolicy[held], (Mempolicy.DEFAULT, Mempolicy.LOCAL))
        return bool(meant.all()) and int(size_bytes.sum()) <= move.limit_bytes

    def by_pages(self, index: int) -> None:
        """Move what one chunk has in the wrong place with move_pages."""
        if self._is_over:
            return
        # _alike() reads /proc/PID/maps, where a signal can end a wait for the mmap lock; in move_pages(2) none can.
        if self._alike() and self._may_go_on():
            sent = [self._send(pages) for pages in self._misplaced(self.chunks[index : index + 1])]
            self._done[index] = all(sent)

    @property
    def _is_over(self) -> bool:
        """Whether no chunk need be looked at: it has ended, or moved what it may and met more.

        Where a huge page alone is more than it may move, others may be smaller.
        """
        is_spent = self._left_bytes < min(self._too_large_bytes, self._move.limit_bytes)
        return is_spent or self._ending is not None

    def _misplaced(self, chunks: list[tuple[int, int, int]]) -> Iterator[Pages]:
        move = self._move
        for chunk in chunks:
            sizes = self._sizes if self._suspecting else replace(self._sizes, huge_bytes=0)
            yield from misplaced(
                move.process.pid, chunk, sizes, self._process.pagemap, move.sources, move.targets
            )

    def _send(self, pages: Pages) -> bool:
        """Send pages batch by batch; say whether all were dealt with."""
        begin = 0
        while begin < len(pages.address) and self._await_turn():
            most = min(self._batch.pages(pages.page_bytes), len(pages.address) - begin)
            count = self._take(most, pages.page_bytes)
            if not count or not self._has_room(count * pages.page_bytes, pages.target):
                return False
            moved_bytes = self._send_batch(pages, pages.address[begin : begin + count])
            begin += count
            with self._lock:
                self._moved_bytes += moved_bytes
                self._left_bytes += count * pages.page_bytes - moved_bytes
        return begin >= len(pages.address) and self._ending is None

    def _send_paid(self, pages: Pages) -> int:
        """Send pages that were allowed for as a block; give the bytes that arrived."""
        moved_bytes = begin = 0
        while begin < len(pages.address) and self._await_turn():
            batch = pages.address[begin : begin + self._batch.pages(pages.page_bytes)]
            moved_bytes += self._send_batch(pages, batch)
            begin += len(batch)
        return moved_bytes

    def _take(self, most: int, page_bytes: int) -> int:
        """Take up to so many pages out of what may still move."""
        with self._lock:
            pages = min(most, self._left_bytes // page_bytes)
            self._left_bytes -= pages * page_bytes
            if not pages:
                self._too_large_bytes = page_bytes
            return pages

    def _has_room(self, size_bytes: int, target: int) -> bool:
        if not self._reclaim.fits(size_bytes, target):
            self.end(Ending.NO_ROOM, f"node {target} is full of what is in use")
        return self._ending is None

    def _may_go_on(self) -> bool:
        if self._ending is None and not self._gate.is_open:
            self.end(Ending.DEADLINE, "told to stop")
        if self._ending is None and time.monotonic() >= self._pace.deadline_s:
            self.end(Ending.DEADLINE)
        if self._ending is None and self._reclaim.hurts():
            self.end(Ending.NO_ROOM, "the kernel swaps, or reclaims in vain")
        return self._ending is None

    def _await_turn(self) -> bool:
        """Wait until the next call hits no step of the process, where it tells them; say whether to go on."""
        waited = False
        while self._may_go_on():
            now_s = time.monotonic()
            rest_s = self._pace.rest_s(now_s, self._call_s[-1] if self._call_s else TARGET_S)
            if not rest_s:
                return not waited or self._alike()
            if now_s + rest_s >= self._pace.deadline_s:
                self.end(Ending.DEADLINE)
            else:
                time.sleep(min(rest_s, LOOK_S))
                came_back()
                waited = True
        return False

    def _alike(self) -> bool:
        """Whether it is still the process, and the memory, that the move was meant for.

        Asked before a chunk and after every batch, which is before the next one.
        """
        still = self._process.still()
        if still is not Still.SAME:
            self.end(_NOT_ALIKE[still], still.value)
        return still is Still.SAME

    def _send_batch(self, pages: Pages, batch: Addresses) -> int:
        """Move one batch; give the bytes that arrived, as far as they are known."""
        arrived, status = self._twice(pages, batch)
        if not self._alike():
            return 0
        if arrived.all() and not pages.suspect:
            return len(batch) * pages.page_bytes
        # The second address of a huge page is busy, isolated by the first: some were met unawares.
        self._suspecting |= bool((status[arrived] == -errno.EBUSY).any())
        if pages.suspect:
            return self._finish_suspects(pages, batch, arrived, status)
        stayed = ~arrived & (status != -errno.ENOENT)
        self._set_aside(pages.page_bytes, batch[stayed], status[stayed])
        return int(arrived.sum()) * pages.page_bytes

    def _twice(self, pages: Pages, batch: Addresses) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Move a batch, and once more what stayed; tell who arrived, and each page's status."""
        arrived, status = self._once(pages, batch)
        if arrived.all():
            return arrived, status
        rest = np.flatnonzero(~arrived & (status != -errno.ENOENT))
        if len(rest) and self._ending is None:
            arrived[rest], status[rest] = self._once(pages, batch[rest])
        return arrived, status

    def _once(self, pages: Pages, batch: Addresses) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Try every page of a batch; the status of what is not there, or was not got to, is -ENOENT."""
        arrived = np.zeros(len(batch), bool)
        status = np.full(len(batch), -errno.ENOENT, np.int32)
        begin = 0
        while begin < len(batch) and (begin == 0 or self._may_go_on()):
            left, answers = self._call(pages, batch[begin:])
            moved = answers == pages.target
            if begin == 0 and not left and moved.all():
                return moved, answers
            # Else only asking again tells what moved.
            with self._else_unknown():
                where = placement.nodes_of(self._move.process.pid, batch[begin:])
            moved = where == pages.target
            tried = self._tried(batch[begin:], left, answers, moved)
            end = begin + tried
            arrived[begin:end] = moved[:tried]
            status[begin:end] = np.where(where < 0, -errno.ENOENT, answers)[:tried]  # freed meanwhile
            begin = end
        return arrived, status

    def _tried(
        self, batch: Addresses, left: int, status: NDArray[np.int32], arrived: NDArray[np.bool_]
    ) -> int:
        """Give how many pages, from the first, need not be sent again for their first try."""
        tried = migration.tried(left, status, arrived)
        if tried == len(batch) or status[tried - 1] != -errno.EBUSY or not self._sizes.huge_bytes:
            return tried
        # Busy, since isolated by another address: a huge page that would not move. Leave all of it.
        size = np.uint64(self._sizes.huge_bytes)
        next_block = (batch[tried - 1] // size + np.uint64(1)) * size
        return max(tried, int(np.searchsorted(batch, next_block)))

    def _call(self, pages: Pages, addresses: Addresses) -> tuple[int, NDArray[np.int32]]:
        began_s, began_cpu_s = time.monotonic(), time.thread_time()
        try:
            left, status = migration.move_pages(
                self._move.process.pid, addresses, pages.target, for_all=bool(self._move.among)
            )
            self._batch.learn(pages.page_bytes, len(addresses), time.thread_time() - began_cpu_s)
        except OSError as error:  # what it moved before it failed stays moved, and must be counted
            self.end_by(error)
            left, status = len(addresses), np.full(len(addresses), -(error.errno or errno.EIO), np.int32)
        came_back()
        with self._lock:
            self._call_s.append(time.monotonic() - began_s)
        return left, status

    def _finish_suspects(
        self, blocks: Pages, first: Addresses, arrived: NDArray[np.bool_], status: NDArray[np.int32]
    ) -> int:
        """Find out which blocks are huge pages, and move the rest of the others; give the bytes that arrived."""
        base = self._sizes.base_bytes
        with self._else_unknown():
            second = placement.nodes_of(self._move.process.pid, first + np.uint64(base))
        moved = arrived & (second == blocks.target)
        if moved.all():
            self._suspecting = True
            return len(first) * blocks.page_bytes
        stayed = ~arrived & (status != -errno.ENOENT)
        huge = stayed.copy()
        huge[stayed] = [self._is_huge(address, blocks.target) for address in first[stayed]]
        self._suspecting = bool((moved | huge).any())
        for rows, page_bytes in ((huge, blocks.page_bytes), (stayed & ~huge, base)):
            self._set_aside(page_bytes, first[rows], status[rows])
        others = ~moved & ~huge
        rest = first[others][:, None] + np.arange(base, blocks.page_bytes, base, dtype=np.uint64)
        rest_bytes = self._send_paid(Pages(rest.ravel(), base, blocks.target))
        return int(moved.sum()) * blocks.page_bytes + int((arrived & others).sum()) * base + rest_bytes

    def _is_huge(self, address: np.uint64, target: int) -> bool:
        """Say whether a page that stays is a huge one: isolated by its first address, it is busy at its second."""
        base = self._sizes.base_bytes
        pair = np.array([address, address + np.uint64(base)], np.uint64)
        _, status = self._call(Pages(pair, base, target), pair)
        return bool(status[1] == -errno.EBUSY)

    def _set_aside(self, page_bytes: int, addresses: Addresses, status: NDArray[np.int32]) -> None:
        """Count by errno the pages that stayed, and remember where they are."""
        if not len(addresses):
            return
        with self._lock:
            for value, count in Counter(status.tolist()).items():
                self._failed[errno.errorcode.get(-value, "unmovable")] += count
            self._stayed.append((addresses, page_bytes))

    def outcome(self, took_s: float) -> Outcome:
        """Say what came of it."""
        ending, detail = self._ending or (Ending.DONE if all(self._done) else Ending.LIMIT, "")
        left = [chunk[0] for chunk, done in zip(self.chunks, self._done, strict=True) if not done]
        stayed_start, stayed_end = _joined(self._stayed)
        return Outcome(
            ending,
            self._moved_bytes,
            dict(sorted(self._failed.items())),
            stayed_start,
            stayed_end,
            left[0] if left else self.chunks[-1][1] if self.chunks else 0,
            took_s,
            tuple(self._call_s),
            detail,
        )


def _joined(stayed: list[tuple[Addresses, int]]) -> tuple[Addresses, Addresses]:
    """Give the fewest ranges that hold these pages, ascending."""
    if not stayed:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    start = np.concatenate([address for address, _ in stayed])
    end = np.concatenate([address + np.uint64(size) for address, size in stayed])
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    gap = start[1:] != end[:-1]
    return start[np.concatenate([[True], gap])], end[np.concatenate([gap, [True]])]


def _bytes(found: Iterable[Pages]) -> int:
    return sum(len(pages.address) * pages.page_bytes for pages in found)


def cut(move: MovePages, sizes: Sizes) -> Iterator[tuple[int, int, int]]:
    """Cut the ranges into chunks alike, so that workers end together, and never inside a huge page.

    Gives start, end and page size of each.
    """
    for start, end, page_bytes in zip(
        move.start.tolist(), move.end.tolist(), move.page_bytes.tolist(), strict=True
    ):
        unit_bytes = max(page_bytes, sizes.huge_bytes)
        turns = math.ceil((end - start) / (THREADS * CHUNK_BYTES))
        chunk_bytes = math.ceil((end - start) / (THREADS * turns))
        begin = start
        while begin < end:
            stop = min(end, -(-(begin + chunk_bytes) // unit_bytes) * unit_bytes)
            yield begin, stop, page_bytes
            begin = stop
