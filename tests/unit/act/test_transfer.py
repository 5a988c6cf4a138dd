# SPDX-License-Identifier: Apache-2.0

"""A move under way ends for one reason, and says how far it got. Real moves are tried in guests."""

import math
import mmap
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.act.batch_size import BatchSize
from numad_py.act.pages import Sizes
from numad_py.act.reclaim import Reclaim
from numad_py.act.transfer import CHUNK_BYTES, THREADS, Transfer, cut
from numad_py.kernel import node_sysfs, proc_stat
from numad_py.kernel.identity import OpenProcess
from numad_py.model import Ending, MovePages, ProcessKey, Reason
from tests.fake_root import FakeRoot

BASE = mmap.PAGESIZE
HUGE = 2 << 20
PAGES = 128
NODES = node_sysfs.read_topology().node_ids
NOWHERE = 1  # on a machine with the one node 0

pytestmark = pytest.mark.skipif(
    NODES != (0,), reason="node 1 must not exist here; guests try what happens where it does"
)


@pytest.fixture
def memory():
    with mmap.mmap(-1, PAGES * BASE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
        mapped[::BASE] = b"1" * PAGES
        view = np.frombuffer(mapped, np.uint8)
        yield view.ctypes.data
        del view


@pytest.fixture
def process():
    with OpenProcess(ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)) as us:
        yield us


@pytest.fixture
def fake(tmp_path):
    """Give counters of a machine with two nodes that have room."""
    return FakeRoot(tmp_path)


def wish(key, start, end, limit_bytes=1 << 30, *, whole=False):
    return MovePages(
        key,
        np.array([start], np.uint64),
        np.array([end], np.uint64),
        np.array([BASE], np.int64),
        NODES,
        (NOWHERE,),
        limit_bytes,
        Reason.MEMORY_FOLLOWS_CPU,
        whole,
    )


def transfer(process, start, end, fake, *, limit_bytes=1 << 30, deadline_s=None, whole=False):
    move = wish(process.key, start, end, limit_bytes, whole=whole)
    deadline_s = time.monotonic() + 10 if deadline_s is None else deadline_s
    return Transfer(move, process, Sizes(BASE, 0), BatchSize(BASE), Reclaim(fake.root), deadline_s=deadline_s)


def test_when_time_is_up_no_call_is_made_and_what_is_left_begins_where_it_began(process, memory, fake):
    late = transfer(process, memory, memory + PAGES * BASE, fake, deadline_s=0.0)

    late.by_pages(0)
    outcome = late.outcome(0.0)

    assert (outcome.ending, outcome.reached, outcome.call_s) == (Ending.DEADLINE, memory, ())


def test_with_fewer_bytes_allowed_than_a_page_the_limit_is_reached_at_once(process, memory, fake):
    bounded = transfer(process, memory, memory + PAGES * BASE, fake, limit_bytes=BASE - 1)

    bounded.by_pages(0)
    outcome = bounded.outcome(0.0)

    assert (outcome.ending, outcome.moved_bytes, outcome.call_s) == (Ending.LIMIT, 0, ())


def test_swapping_ends_it_before_another_call(process, memory, fake):
    hurting = transfer(process, memory, memory + PAGES * BASE, fake)
    fake.vmstat(pswpout=1)

    hurting.by_pages(0)

    assert hurting.outcome(0.0).ending is Ending.NO_ROOM
    assert hurting.outcome(0.0).call_s == ()


def test_a_node_that_does_not_exist_is_the_kernels_refusal(process, memory, fake):
    wrong = transfer(process, memory, memory + PAGES * BASE, fake)

    with pytest.raises(OSError, match="move_pages") as refused:
        wrong.by_pages(0)
    wrong.end_by(refused.value)

    assert wrong.outcome(0.0).ending is Ending.REFUSED
    assert "No such device" in wrong.outcome(0.0).detail


def test_the_first_reason_to_end_stands(process, memory, fake):
    ended = transfer(process, memory, memory + BASE, fake)

    ended.end(Ending.STUCK, "first")
    ended.end_by(ProcessLookupError(3, "second"))

    assert (ended.outcome(0.0).ending, ended.outcome(0.0).detail) == (Ending.STUCK, "first")


@given(st.integers(0, 1 << 20), st.integers(1, 1 << 17))
def test_a_range_is_cut_into_as_many_chunks_for_each_worker_and_never_inside_a_huge_page(first, pages):
    start, end = first * BASE, (first + pages) * BASE

    chunks = list(cut(wish(ProcessKey(7, 7), start, end), Sizes(BASE, HUGE)))

    assert [low for low, _, _ in chunks] == [start, *(high for _, high, _ in chunks[:-1])]
    assert chunks[-1][1] == end
    assert all(high % HUGE == 0 for _, high, _ in chunks[:-1])
    assert max(high - low for low, high, _ in chunks) <= CHUNK_BYTES + HUGE
    rounds = math.ceil((end - start) / (THREADS * CHUNK_BYTES))
    assert len(chunks) <= THREADS * rounds


@pytest.mark.parametrize(
    ("whole", "pages", "fits"), [(True, 10, True), (False, 10, False), (True, 100_000, False)]
)
def test_one_call_is_for_a_whole_process_that_is_small(process, fake, whole, pages, fits):
    move = transfer(process, BASE, 2 * BASE, fake, limit_bytes=pages * BASE, whole=whole)

    assert move.fits_one_call == fits
