# SPDX-License-Identifier: Apache-2.0

"""The actuator answers every move, refuses what it may not do, and is back by its deadline."""

import errno
import mmap
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from numad_py.act import actuator
from numad_py.act.actuator import NICE, LiveActuator
from numad_py.act.gate import Gate
from numad_py.act.pages import Sizes
from numad_py.act.strangers import IN_TIME
from numad_py.act.transfer import Transfer
from numad_py.kernel import Malformed, migration, placement, proc_stat, proc_status
from numad_py.model import Ending, MovePages, Plan, ProcessKey, Reason
from numad_py.rhythm import Rhythm
from numad_py.workers import Unfinished, Workers

ROOT = Path(__file__).parents[3]
BASE = mmap.PAGESIZE
PAGES = 64
US = ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)
ALLOWED = proc_status.read(os.getpid()).nodes_allowed
AWAY = max(ALLOWED) + 1

ASK_WITHOUT_RIGHTS = """
import os, sys
sys.path.insert(0, {root!r})
from tests.unit.act.test_actuator import answered, PAGES, BASE
from numad_py.model import ProcessKey
if os.geteuid() == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
outcome = answered(4096, 4096 + PAGES * BASE, process=ProcessKey({pid}, {start_ticks}))
print(outcome.ending.value, outcome.detail, sep=": ")
"""


def wished(start, end, *, process=US, target=ALLOWED[0], sources=ALLOWED, among=()):
    """Give the wish to bring one range to a node."""
    return MovePages(
        process,
        np.array([start], np.uint64),
        np.array([end], np.uint64),
        np.array([BASE], np.int64),
        sources,
        (target,),
        end - start,
        Reason.MEMORY_FOLLOWS_CPU,
        among=among,
    )


def answered(
    start, end, *, process=US, target=ALLOWED[0], deadline_s=0.5, gate=None, sources=ALLOWED, among=()
):
    """Give what becomes of the wish to bring one range to a node."""
    wish = wished(start, end, process=process, target=target, sources=sources, among=among)
    live = LiveActuator(Workers(), Sizes(BASE, 0), gate, deadline_s=deadline_s)
    (outcome,) = live.move(Plan((wish,)))
    return outcome


def test_nothing_is_tried_while_the_gate_is_closed():
    gate = Gate()
    gate.close("operator", "paused")

    outcome = answered(0, BASE, process=ProcessKey(os.getpid(), 1), gate=gate)

    assert outcome.ending is Ending.DRY_RUN


@pytest.fixture
def memory():
    """Give the first address of touched pages of our own."""
    with mmap.mmap(-1, PAGES * BASE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        mapped[::BASE] = b"1" * PAGES
        view = np.frombuffer(mapped, np.uint8)
        yield view.ctypes.data
        del view


def test_pages_that_are_where_they_should_be_are_dealt_with_and_not_moved(memory):
    target = ALLOWED[0] if len(ALLOWED) == 1 else None
    if target is None:
        pytest.skip("with several nodes the pages may be on any")

    outcome = answered(memory, memory + PAGES * BASE)

    assert (outcome.ending, outcome.moved_bytes, outcome.failed, outcome.call_s) == (Ending.DONE, 0, {}, ())
    assert outcome.reached == memory + PAGES * BASE


def test_a_process_that_ended_is_gone():
    with subprocess.Popen(["true"]) as ended:
        key = ProcessKey(ended.pid, 1)

    outcome = answered(4096, 8192, process=key)

    assert outcome.ending is Ending.GONE


def test_another_process_with_the_same_pid_is_not_touched(memory):
    other = ProcessKey(US.pid, US.start_ticks + 1)

    outcome = answered(memory, memory + BASE, process=other)

    assert (outcome.ending, outcome.detail) == (Ending.GONE, f"process {US.pid} is another one now")


def test_a_target_outside_the_cpuset_is_refused_before_anything_is_asked(memory):
    outcome = answered(memory, memory + BASE, target=AWAY)

    assert (outcome.ending, outcome.call_s) == (Ending.REFUSED, ())
    assert outcome.detail == f"node {AWAY} is outside the cpuset of the process"


def test_another_users_process_is_refused_without_the_right_to_it():
    words = {"root": str(ROOT), "pid": 1, "start_ticks": proc_stat.read(1).start_ticks}

    result = subprocess.run(
        [sys.executable, "-c", ASK_WITHOUT_RIGHTS.format(**words)], capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith("refused: "), result.stdout
    assert "Permission denied" in result.stdout


def test_with_no_time_at_all_every_move_is_still_answered_at_once(memory):
    began_s = time.monotonic()

    outcome = answered(memory, memory + PAGES * BASE, deadline_s=0.0)

    assert time.monotonic() - began_s < 5
    assert outcome.ending in {Ending.DONE, Ending.DEADLINE}
    assert (outcome.moved_bytes, outcome.call_s) == (0, ())


def test_nothing_to_do_is_done():
    assert LiveActuator(Workers(), Sizes(BASE, 0)).move(Plan()) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_SYS_NICE")
def test_moves_are_carried_out_where_others_seldom_preempt_and_nothing_else_is(memory, monkeypatch):
    ours, priorities = os.getpriority(os.PRIO_PROCESS, 0), []

    def note(_transfer, *_chunk):
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    monkeypatch.setattr(Transfer, "by_pages", note)
    monkeypatch.setattr(Transfer, "by_process", note)

    answered(memory, memory + PAGES * BASE)

    assert set(priorities) == {NICE}
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


def test_a_machine_without_a_descriptor_left_is_a_reason_to_refuse_and_no_end(memory, monkeypatch):
    def none_left(_pid):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", none_left)

    outcome = answered(memory, memory + BASE)

    assert (outcome.ending, outcome.detail) == (Ending.REFUSED, "[Errno 24] Too many open files")


def test_a_counter_that_makes_no_sense_is_a_reason_to_refuse_and_no_end(memory, monkeypatch):
    def garbled(_transfer, *_chunk):
        raise Malformed("vmstat: pswpout is b'x'")

    monkeypatch.setattr(Transfer, "by_pages", garbled)

    outcome = answered(memory, memory + BASE)

    assert (outcome.ending, outcome.detail) == (Ending.REFUSED, "vmstat: pswpout is b'x'")


@pytest.fixture
def asked(monkeypatch):
    """Give, by call of move_pages, whether it was for all who map the pages; none arrives anywhere."""
    for_all = []

    def refused(_pid, addresses, _target, **how):
        for_all.append(how["for_all"])
        return len(addresses), np.full(len(addresses), -errno.EACCES, np.int32)

    monkeypatch.setattr(migration, "move_pages", refused)
    monkeypatch.setattr(placement, "nodes_of", lambda _, addresses: np.full(len(addresses), AWAY, np.int32))
    return for_all


@pytest.mark.parametrize(
    ("rights", "found", "for_all", "detail"),
    [
        ({"CAP_SYS_NICE"}, [""], True, ""),
        ({"CAP_SYS_NICE"}, ["process 7 (cat), which is not of the job, maps it too"], False, "process 7"),
        ({"CAP_SYS_NICE"}, Malformed("nonsense"), False, "who else maps it cannot be told: nonsense"),
        ({"CAP_SYS_NICE"}, PermissionError("not yours"), False, "who else maps it cannot be told: not yours"),
        (set(), [""], False, "CAP_SYS_NICE is missing"),
    ],
)
def test_pages_move_for_all_only_by_right_and_where_no_stranger_has_them(
    memory, asked, monkeypatch, rights, found, for_all, detail
):
    def strangers(*_):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(actuator, "strangers", strangers)
    monkeypatch.setattr(actuator.capabilities, "effective", lambda: rights)

    outcome = answered(memory, memory + PAGES * BASE, sources=(AWAY,), among=(US,))

    assert set(asked) == {for_all}
    assert outcome.detail.startswith(detail)
    assert bool(outcome.detail) == bool(detail)


def test_a_process_that_has_become_large_goes_page_by_page(memory, asked, monkeypatch):
    monkeypatch.setattr(migration, "migrate_pages", None)
    wish = replace(wished(memory, memory + PAGES * BASE, sources=(AWAY,)), whole=True)

    (outcome,) = LiveActuator(Workers(), Sizes(BASE, 0)).move(Plan((wish,)))

    assert (outcome.ending, outcome.failed) == (Ending.DONE, {"EACCES": PAGES})
    assert asked


def test_moves_wait_for_the_steps_of_whoever_has_the_pages_and_are_answered_in_order(
    memory, asked, monkeypatch
):
    stepping = ProcessKey(os.getppid(), 1)
    monkeypatch.setattr(actuator, "strangers", lambda moves, *_: [""] * len(moves))
    monkeypatch.setattr(actuator.capabilities, "effective", lambda: {"CAP_SYS_NICE"})
    in_a_step = Rhythm(period_s=3600.0, slack_s=1.0, ended_s=time.monotonic() - 10)
    live = LiveActuator(Workers(), Sizes(BASE, 0), deadline_s=60.0, rhythm={stepping.pid: in_a_step}.get)
    shared, alone = (
        wished(memory, memory + PAGES * BASE, sources=(AWAY,), among=among) for among in ((US, stepping), ())
    )

    waited, moved = live.move(Plan((shared, alone)))

    assert (waited.ending, waited.detail, waited.call_s) == (Ending.DEADLINE, "no step ended in time", ())
    assert (moved.ending, moved.detail, bool(moved.call_s)) == (Ending.DONE, "", True)


@pytest.mark.parametrize(("threads", "ending"), [(0, Ending.DEADLINE), (1, Ending.STUCK)])
def test_where_no_thread_can_be_started_moves_that_wait_for_steps_are_answered_too(
    memory, monkeypatch, threads, ending
):
    left = iter(range(threads))
    start = threading.Thread.start

    def starts(thread):
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    live = LiveActuator(Workers(), Sizes(BASE, 0), rhythm=lambda _: Rhythm(1.0, 0.5, time.monotonic()))
    wish = wished(memory, memory + PAGES * BASE, sources=(AWAY,))
    monkeypatch.setattr(threading.Thread, "start", starts)

    outcomes = live.move(Plan((wish, wish)))

    assert [(each.ending, each.detail) for each in outcomes] == [(ending, Unfinished.NO_THREAD.value)] * 2


def test_a_stuck_process_that_may_be_anybodys_keeps_nothing_but_what_is_shared_from_moving_for_all(
    memory, asked, monkeypatch
):
    held = threading.Event()
    workers = Workers(stuck_limit=1)
    live = LiveActuator(workers, Sizes(BASE, 0), deadline_s=0.2)
    monkeypatch.setattr(actuator, "strangers", lambda *_: held.wait(60))
    monkeypatch.setattr(actuator.capabilities, "effective", lambda: {"CAP_SYS_NICE"})
    shared, alone = (
        wished(memory, memory + PAGES * BASE, sources=(AWAY,), among=among) for among in ((US,), ())
    )

    outcomes = [live.move(Plan((shared, alone))) for _ in range(2)]
    stuck = workers.stuck
    held.set()

    told = "who else maps it cannot be told: "
    assert [first.detail for first, _ in outcomes] == [
        f"{told}stuck in the kernel",
        f"{told}not begun, too many processes are stuck in the kernel",
    ]
    assert [second.ending for _, second in outcomes] == [Ending.DONE] * 2
    assert set(asked) == {False}
    assert stuck == ()


@pytest.mark.parametrize(("rests", "later"), [(100, Ending.DEADLINE), (-1, Ending.DONE)])
def test_where_there_is_no_time_to_tell_who_maps_it_nothing_of_it_is_tried_nor_asked_for_a_while(
    memory, asked, monkeypatch, rests, later
):
    told, had_s = iter([[IN_TIME, ""], ["", ""]]), []

    def strangers(_moves, _root, until_s):
        had_s.append(until_s - time.monotonic())
        return next(told)

    monkeypatch.setattr(actuator, "SCAN_RESTS", rests)
    monkeypatch.setattr(actuator, "strangers", strangers)
    monkeypatch.setattr(actuator.capabilities, "effective", lambda: {"CAP_SYS_NICE"})
    live = LiveActuator(Workers(), Sizes(BASE, 0))
    shared, alone = (
        wished(memory, memory + PAGES * BASE, sources=(AWAY,), among=among) for among in ((US,), ())
    )

    (first, moved), (second, _) = (live.move(Plan((shared, alone))) for _ in range(2))

    assert (first.ending, first.detail, first.call_s) == (Ending.DEADLINE, IN_TIME, ())
    assert (moved.ending, second.ending) == (Ending.DONE, later)
    assert all(later_s > 1.5 * first_s for first_s, later_s in pairwise(had_s))


def test_what_one_process_has_moves_before_anybody_is_asked_who_else_maps_what_is_shared(
    memory, asked, monkeypatch
):
    def strangers(moves, _root, until_s):
        asked.append(until_s)
        return [""] * len(moves)

    monkeypatch.setattr(actuator, "strangers", strangers)
    monkeypatch.setattr(actuator.capabilities, "effective", lambda: {"CAP_SYS_NICE"})
    live = LiveActuator(Workers(), Sizes(BASE, 0), deadline_s=60.0)
    moves = tuple(
        wished(memory, memory + PAGES * BASE, sources=(AWAY,), among=among) for among in ((US,), ())
    )
    began_s = time.monotonic()

    live.move(Plan(moves))

    (until_s,) = [each for each in asked if not isinstance(each, bool)]
    order = [each for each in asked if each is not until_s]
    assert asked.index(until_s) == order.index(True)
    assert order == sorted(order)
    assert began_s + 45.0 <= until_s < began_s + 46.0
