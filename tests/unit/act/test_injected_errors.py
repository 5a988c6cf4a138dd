# SPDX-License-Identifier: Apache-2.0

"""Whatever move_pages and migrate_pages answer, the move ends with a reason and every page moved is counted."""

import errno
import mmap
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.act.batch_size import BatchSize
from numad_py.act.pace import Pace
from numad_py.act.pages import Pages, Sizes
from numad_py.act.reclaim import Reclaim
from numad_py.act.transfer import CHUNK_BYTES, Transfer
from numad_py.kernel import migration, numa_maps, placement, proc_stat
from numad_py.kernel.identity import OpenProcess
from numad_py.model import Ending, MovePages, ProcessKey, Reason
from tests.fake_root import FakeRoot

BASE = mmap.PAGESIZE
PAGES = 256
AS_WISHED = f"{{:x}} default anon={PAGES} N0={PAGES} kernelpagesize_kB={BASE >> 10}\n"
ENDINGS = {errno.ESRCH: Ending.GONE, errno.ENOENT: Ending.GONE, errno.ENOMEM: Ending.NO_ROOM}
# What a page's status can be: -ENOENT and -EFAULT say that there is none, the others that it stays.
STATUSES = (errno.EACCES, errno.EBUSY, errno.EINVAL, errno.EIO, errno.ENOMEM, errno.EAGAIN, errno.ENODEV)


class FaultyKernel:
    """Moves pages of a machine with two nodes, on paper, until it fails as told."""

    def __init__(self, first):
        self.node = np.zeros(PAGES, np.int32)
        self.fails_at, self.error = PAGES, 0
        self.statuses = {}
        self.asked, self.answers = 0, PAGES
        self._first = first

    def nodes_of(self, _pid, addresses):
        self.asked += 1
        if self.asked > self.answers:
            raise OSError(self.error, "move_pages: injected")
        return self.node[self._rows(addresses)].copy()

    def move_pages(self, _pid, addresses, target, **_):
        rows = self._rows(addresses)
        status = np.full(len(rows), migration.UNTOUCHED, np.int32)
        for place, row in enumerate(rows.tolist()):
            if row >= self.fails_at:
                raise OSError(self.error, "move_pages: injected")
            if row in self.statuses:
                status[place] = -self.statuses[row]
            else:
                self.node[row] = status[place] = target
        return int((status < 0).sum()), status

    def migrate_pages(self, _pid, _sources, target):
        self.node[: self.fails_at] = target
        if self.fails_at < PAGES:
            raise OSError(self.error, "migrate_pages: injected")
        return 0

    def _rows(self, addresses):
        return ((addresses - np.uint64(self._first)) // np.uint64(BASE)).astype(np.int64)


@pytest.fixture(scope="module")
def memory():
    with mmap.mmap(-1, PAGES * BASE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
        mapped[::BASE] = b"1" * PAGES
        view = np.frombuffer(mapped, np.uint8)
        yield view.ctypes.data
        del view


@pytest.fixture(scope="module")
def moving(memory, tmp_path_factory):
    """Give a function that carries out one move under a kernel that fails as told, and gives kernel and outcome."""
    fake = FakeRoot(tmp_path_factory.mktemp("root"))
    us = ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)
    ranges = np.array([memory], np.uint64), np.array([memory + PAGES * BASE], np.uint64), np.array([BASE])
    move = MovePages(us, *ranges, (0,), (1,), PAGES * BASE, Reason.MEMORY_FOLLOWS_CPU, whole=True)
    stat = replace(proc_stat.read(us.pid), rss_pages=PAGES)

    def carried_out(way, limit_bytes=PAGES * BASE, resident=stat.rss_pages, held=AS_WISHED, **faults):
        kernel = FaultyKernel(memory)
        vars(kernel).update(faults)
        with pytest.MonkeyPatch.context() as patch, OpenProcess(us) as process:
            patch.setattr(placement, "nodes_of", kernel.nodes_of)
            patch.setattr(migration, "move_pages", kernel.move_pages)
            patch.setattr(migration, "migrate_pages", kernel.migrate_pages)
            patch.setattr(proc_stat, "read", lambda _: replace(stat, rss_pages=resident))
            patch.setattr(numa_maps, "read", lambda _: held.format(memory).encode())
            limits = BatchSize(BASE), Reclaim(fake.root)
            limited = replace(move, limit_bytes=limit_bytes)
            transfer = Transfer(limited, process, Sizes(BASE, 0), *limits, pace=Pace(time.monotonic() + 60))
            way(transfer)
            return kernel, transfer.outcome(0.0)

    return carried_out


def by_pages(transfer):
    for chunk in range(len(transfer.chunks)):
        transfer.by_pages(chunk)


@pytest.mark.parametrize("error", sorted(errno.errorcode))
@pytest.mark.parametrize("way", [by_pages, Transfer.by_process], ids=["move_pages", "migrate_pages"])
def test_a_call_that_fails_half_way_ends_the_move_and_what_moved_before_is_counted(moving, way, error):
    kernel, outcome = moving(way, fails_at=100, error=error)

    assert outcome.ending is ENDINGS.get(error, Ending.REFUSED)
    assert outcome.detail.endswith("injected")
    assert outcome.moved_bytes == int(kernel.node.sum()) * BASE == 100 * BASE
    assert len(outcome.call_s) > 0


@pytest.mark.parametrize(("error", "ending"), [(errno.EIO, Ending.UNKNOWN), (errno.ESRCH, Ending.GONE)])
@pytest.mark.parametrize(
    ("way", "asked_before"), [(by_pages, 1), (Transfer.by_process, 2)], ids=["move_pages", "migrate_pages"]
)
def test_where_asking_fails_after_pages_were_moved_that_is_said(moving, way, asked_before, error, ending):
    def carried_out(transfer):
        with pytest.raises(OSError, match="injected") as failed:
            way(transfer)
        transfer.end_by(failed.value)  # as the actuator does

    _, outcome = moving(carried_out, answers=asked_before, error=error, statuses={7: errno.EACCES})

    assert outcome.ending is ending
    assert len(outcome.call_s) == 1


@given(st.integers(0, PAGES - 1), st.sampled_from(sorted(errno.errorcode)))
def test_wherever_a_call_fails_no_page_is_counted_twice_or_lost(moving, fails_at, error):
    kernel, outcome = moving(by_pages, fails_at=fails_at, error=error)

    assert outcome.moved_bytes == int(kernel.node.sum()) * BASE == fails_at * BASE


@given(st.dictionaries(st.integers(0, PAGES - 1), st.sampled_from(STATUSES), max_size=40))
def test_pages_that_stay_are_counted_by_what_the_kernel_said_of_them_and_all_others_move(moving, statuses):
    kernel, outcome = moving(by_pages, statuses=statuses)

    stayed_bytes = int((outcome.stayed_end - outcome.stayed_start).sum())
    assert outcome.ending is Ending.DONE
    assert outcome.moved_bytes == int(kernel.node.sum()) * BASE == (PAGES - len(statuses)) * BASE
    assert sum(outcome.failed.values()) * BASE == stayed_bytes == len(statuses) * BASE
    assert set(outcome.failed) == {errno.errorcode[status] for status in statuses.values()}


def test_once_the_limit_is_used_up_no_further_chunk_is_looked_at(moving):
    kernel, outcome = moving(by_pages, limit_bytes=100 * BASE)

    assert (outcome.ending, outcome.moved_bytes) == (Ending.LIMIT, 100 * BASE)
    assert kernel.asked == 1


def test_where_the_limit_is_just_what_had_to_move_the_rest_is_found_to_be_in_place(moving):
    half = PAGES // 2  # one of the two chunks
    node = np.repeat([0, 1], half).astype(np.int32)

    kernel, outcome = moving(by_pages, limit_bytes=half * BASE, node=node)

    assert (outcome.ending, outcome.moved_bytes) == (Ending.DONE, half * BASE)
    assert kernel.asked == 2


def test_where_the_first_page_alone_is_more_than_may_move_smaller_ones_behind_it_do(moving, monkeypatch):
    def found(_pid, chunk, *_):
        start, end, _ = chunk
        first = not met
        met.append(start)
        yield Pages(np.array([start], np.uint64), end - start if first else BASE, 1)

    met = []
    monkeypatch.setattr("numad_py.act.transfer.misplaced", found)

    _, outcome = moving(by_pages, limit_bytes=2 * BASE)

    assert (outcome.ending, outcome.moved_bytes) == (Ending.LIMIT, BASE)


LIBRARY = (
    f"7f00deadb000 default file=/usr/lib/libc.so.6 mapped=9 mapmax=80 N0=9 kernelpagesize_kB={BASE >> 10}\n"
)
ELSEWHERE = f"7f00deadb000 bind:1 anon=9 N1=9 kernelpagesize_kB={BASE >> 10}\n"


@pytest.mark.parametrize(
    ("held", "resident"),
    [
        pytest.param(AS_WISHED.replace(str(PAGES), str(PAGES + 1)), PAGES, id="more than may move"),
        pytest.param(f"1000 default anon=1 N0=1\n{AS_WISHED}", PAGES, id="memory below"),
        pytest.param(AS_WISHED.replace(str(PAGES), "9") + LIBRARY, PAGES, id="a library"),
        pytest.param(AS_WISHED.replace("default", "bind:0"), PAGES, id="memory that was bound"),
        pytest.param(AS_WISHED, CHUNK_BYTES // BASE + 1, id="much on other nodes"),
    ],
)
def test_a_process_that_has_more_by_now_than_the_move_is_for_is_not_moved_in_one_call(moving, held, resident):
    kernel, outcome = moving(Transfer.by_process, held=held, resident=resident)

    assert not kernel.node.any()
    assert (outcome.call_s, outcome.moved_bytes) == ((), 0)


def test_what_a_process_has_elsewhere_does_not_keep_it_from_moving_in_one_call(moving):
    kernel, outcome = moving(Transfer.by_process, held=AS_WISHED + ELSEWHERE)

    assert kernel.node.all()
    assert (outcome.ending, outcome.moved_bytes) == (Ending.DONE, PAGES * BASE)
