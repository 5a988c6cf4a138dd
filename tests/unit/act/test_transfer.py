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
from numad_py.act.gate import Gate
from numad_py.act.pace import Pace
from numad_py.act.pages import Sizes
from numad_py.act.reclaim import Reclaim
from numad_py.act.transfer import CHUNK_BYTES, THREADS, Transfer, cut
from numad_py.kernel import node_sysfs, proc_stat
from numad_py.kernel.identity import OpenProcess, Still
from numad_py.model import Ending, MovePages, ProcessKey, Reason
from numad_py.rhythm import Rhythm
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


def transfer(process, start, end, fake, gate=None, *, limit_bytes=1 << 30, deadline_s=None, whole=False):
    move = wish(process.key, start, end, limit_bytes, whole=whole)
    deadline_s = time.monotonic() + 10 if deadline_s is None else deadline_s
    limits = BatchSize(BASE), Reclaim(fake.root), gate
    return Transfer(move, process, Sizes(BASE, 0), *limits, pace=Pace(deadline_s))


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


def test_a_gate_closed_meanwhile_ends_it_before_another_call(process, memory, fake):
    gate = Gate()
    told = transfer(process, memory, memory + PAGES * BASE, fake, gate)
    gate.close("operator", "paused")

    told.by_pages(0)
    outcome = told.outcome(0.0)

    assert (outcome.ending, outcome.detail, outcome.call_s) == (Ending.DEADLINE, "told to stop", ())


def test_swapping_ends_it_before_another_call(process, memory, fake):
    hurting = transfer(process, memory, memory + PAGES * BASE, fake)
    fake.vmstat(pswpout=1)

    hurting.by_pages(0)

    assert hurting.outcome(0.0).ending is Ending.NO_ROOM
    assert hurting.outcome(0.0).call_s == ()


def test_a_node_that_does_not_exist_is_the_kernels_refusal(process, memory, fake):
    wrong = transfer(process, memory, memory + PAGES * BASE, fake)

    wrong.by_pages(0)

    assert wrong.outcome(0.0).ending is Ending.REFUSED
    assert "No such device" in wrong.outcome(0.0).detail


def test_the_first_reason_to_end_stands(process, memory, fake):
    ended = transfer(process, memory, memory + BASE, fake)

    ended.end(Ending.STUCK, "first")
    ended.end_by(ProcessLookupError(3, "second"))

    assert (ended.outcome(0.0).ending, ended.outcome(0.0).detail) == (Ending.STUCK, "first")


def in_steps(process, memory, fake, rhythm, deadline_s=10.0):
    """Give a transfer of memory of a process that makes steps."""
    pace = Pace(time.monotonic() + deadline_s, rhythm, time.monotonic())
    limits = BatchSize(BASE), Reclaim(fake.root)
    return Transfer(
        wish(process.key, memory, memory + PAGES * BASE), process, Sizes(BASE, 0), *limits, pace=pace
    )


def test_where_no_step_ends_in_time_it_ends_at_once_without_a_call(process, memory, fake):
    waiting = in_steps(process, memory, fake, lambda: Rhythm(3600.0, 1.0, time.monotonic() - 2))

    waiting.by_pages(0)

    assert waiting.outcome(0.0).ending is Ending.DEADLINE
    assert waiting.outcome(0.0).call_s == ()


def ends_soon(asked):
    """Give a rhythm of which a step ends when it was asked for so often."""
    left = iter(range(asked))
    return lambda: Rhythm(3.0, 1.0, time.monotonic() - (2 if next(left, None) is not None else 0))


def test_a_call_waits_until_the_step_has_ended(process, memory, fake):
    waiting = in_steps(process, memory, fake, ends_soon(3))

    waiting.by_pages(0)

    assert "No such device" in waiting.outcome(0.0).detail  # which the kernel says of a call


def test_a_process_that_execs_while_it_is_waited_for_is_not_touched(process, memory, fake, monkeypatch):
    waiting = in_steps(process, memory, fake, ends_soon(3))
    stills = iter([Still.SAME])
    monkeypatch.setattr(OpenProcess, "still", lambda _: next(stills, Still.EXECED))

    waiting.by_pages(0)

    assert waiting.outcome(0.0).ending is Ending.UNKNOWN
    assert waiting.outcome(0.0).call_s == ()


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
