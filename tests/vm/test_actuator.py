# SPDX-License-Identifier: Apache-2.0

"""The actuator moves every page that can move, and tells truly of every one that cannot.

The kernel is asked afterwards, never the actuator alone: page by page with a bare
move_pages(2), or by VMA with numa_maps.
"""

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py.guard import Guard, Limits
from numad_py.kernel import node_sysfs
from numad_py.kernel.cgroup import read_mount_point
from numad_py.model import Ending, MovePages, Plan, ProcessKey, Reason, Tick
from numad_py.roles import Policy
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import LiveSensor
from numad_py.workers import Workers
from tests.vm import job_memory, observer
from tests.vm.moving import (
    HUGE,
    MB,
    PAGE,
    Calls,
    act,
    act_in_steady_batches,
    block_of,
    key_of,
    move_of,
    pages_on,
    read,
    rows_on,
    stayed_pages,
)
from tests.vm.running import PATIENCE_S

everywhere = pytest.mark.guest("two-nodes", "four-nodes")

PINNED = (0, 32, 63, 64, 100, 300)  # first, middle and last of a batch of 64, and in later ones


@pytest.fixture
def calls(monkeypatch):
    return Calls().wrap(monkeypatch)


def pinned(workload, mb):
    return workload("pinned", f"--mb={mb}", "--pin", *map(str, PINNED))


@everywhere
@pytest.mark.parametrize("mb", [2, 8])  # the larger one holds whole blocks that could be huge pages
def test_every_page_but_the_pinned_ones_arrives(workload, mb):
    running = pinned(workload, mb)

    outcome = act_in_steady_batches(move_of(running))

    assert pages_on(running, 0) == PINNED
    assert outcome.ending is Ending.DONE
    assert outcome.failed == {"unmovable": len(PINNED)}
    assert stayed_pages(running, outcome) == PINNED
    assert outcome.moved_bytes == mb * MB - len(PINNED) * PAGE


@everywhere
def test_a_pinned_page_at_the_head_of_a_block_keeps_none_of_the_others(workload):
    heads = workload("pinned", "--mb=8", "--pin-heads")
    head = block_of(heads)

    outcome = act_in_steady_batches(move_of(heads))

    pages = (head, head + HUGE // PAGE)
    assert pages_on(heads, 0) == pages
    assert stayed_pages(heads, outcome) == pages
    assert outcome.failed == {"unmovable": 2}


@everywhere
def test_pages_behind_pinned_and_shared_ones_arrive_in_the_same_batch(workload):
    mine = [page for page in range(256) if page not in (2, 20, 90)]
    running = workload("forked", "--mb=1", "--own", *map(str, mine), "--pin", "1", "21", "89")

    outcome = act_in_steady_batches(move_of(running))

    assert pages_on(running, 0) == (1, 2, 20, 21, 89, 90)
    assert outcome.failed == {"EACCES": 3, "unmovable": 3}
    assert stayed_pages(running, outcome) == (1, 2, 20, 21, 89, 90)


@everywhere
def test_what_all_processes_of_a_job_share_is_refused_and_counted(workload):
    running = workload("forked", "--mb=2")

    outcome = act(move_of(running))

    assert len(pages_on(running, 0)) == 512
    assert outcome.failed == {"EACCES": 512}
    assert outcome.moved_bytes == 0


class Wishes(Policy):
    """Wants the same move again and again."""

    def __init__(self, move):
        self.move = move

    def decide(self, snapshot):
        return Plan((self.move,))


@everywhere
def test_pinned_pages_are_not_asked_for_again_at_once(job):
    group = job()
    running = group.start("pinned", "--mb=2", "--pin", *map(str, PINNED))
    group.label("default")
    topology = node_sysfs.read_topology(Path("/"))
    sensor = LiveSensor(topology, Workers(), Jobs(read_mount_point(), Rules()))
    guard = Guard(Wishes(move_of(running)), Limits(limit_mb_per_s=1e6, backoff_s=3600.0))
    guard.decide(sensor.look())  # a rate needs two looks
    first = sensor.look()
    plan = guard.decide(first)

    outcome = act_in_steady_batches(*plan.moves)
    guard.review(Tick(first, plan, (outcome,)))
    (again,) = guard.decide(sensor.look()).moves

    asked = np.zeros(2 * MB // PAGE, bool)
    for start, end in zip(again.start.tolist(), again.end.tolist(), strict=True):
        asked[(start - running.start) // PAGE : (end - running.start) // PAGE] = True
    assert pages_on(running, 0) == PINNED
    assert tuple(np.flatnonzero(~asked)) == PINNED


@everywhere
def test_a_process_that_execs_meanwhile_ends_as_unknown_and_keeps_its_new_memory(workload, calls):
    running = workload("exec", "--mb=8")
    before = running.start

    def become_another():
        running.tell("exec")
        running.await_ready()

    calls.after[3] = become_another
    outcome = act_in_steady_batches(move_of(running))

    assert len(calls.addresses) == 3
    assert outcome.ending is Ending.UNKNOWN
    assert running.start != before
    assert pages_on(running, 0) == tuple(range(8 * MB // PAGE))
    assert observer.anonymous_share(running.pid, 0) == 1


@everywhere
def test_a_process_that_is_killed_meanwhile_ends_as_gone(workload, calls):
    running = workload("late-bound", "--mb=8")

    calls.after[3] = running.close
    outcome = act_in_steady_batches(move_of(running))

    assert len(calls.addresses) == 3
    assert outcome.ending is Ending.GONE


@everywhere
def test_a_pid_of_another_process_ends_as_gone_without_a_call(workload, calls):
    running = workload("late-bound", "--mb=2")
    key = key_of(running.pid)
    earlier = ProcessKey(key.pid, key.start_ticks - 1)

    outcome = act(move_of(running, key=earlier))

    assert outcome.ending is Ending.GONE
    assert calls.addresses == []
    assert len(pages_on(running, 0)) == 512


@everywhere
def test_a_target_outside_the_cpuset_is_refused_and_no_page_moves(job, calls):
    group = job()
    (group.path / "cpuset.mems").write_text("0")
    running = group.start("late-bound", "--mb=2")

    outcome = act(move_of(running))

    assert outcome.ending is Ending.REFUSED
    assert "node 1 is outside the cpuset" in outcome.detail
    assert calls.addresses == []
    assert len(pages_on(running, 0)) == 512


@everywhere
def test_a_cpuset_that_closes_meanwhile_is_the_kernels_refusal(job, calls):
    group = job()
    running = group.start("late-bound", "--mb=2")

    calls.after[1] = lambda: (group.path / "cpuset.mems").write_text("0")
    outcome = act_in_steady_batches(move_of(running))

    assert outcome.ending is Ending.REFUSED
    assert "Permission denied" in outcome.detail
    assert len(calls.addresses) == 1


@everywhere
def test_a_node_that_does_not_exist_is_refused(workload, guest):
    running = workload("late-bound", "--mb=2")

    outcome = act(move_of(running, target=len(guest.nodes)))

    assert outcome.ending is Ending.REFUSED
    assert len(pages_on(running, 0)) == 512


@everywhere
def test_no_more_than_the_limit_moves_and_not_much_less(workload):
    running = workload("late-bound", "--mb=8")

    outcome = act(move_of(running, limit_bytes=5 * MB))

    assert outcome.ending is Ending.LIMIT
    assert 5 * MB - HUGE < outcome.moved_bytes <= 5 * MB
    assert len(pages_on(running, 1)) == outcome.moved_bytes // PAGE


@pytest.fixture
def alone(tmp_path):
    """Start a static program of its own file system, so that it shares nothing with anybody."""
    mount = tmp_path / "own"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=True)
    program = shutil.copy("/bin/busybox", mount / "sleep")
    cpu = min(job_memory.cpus_of(0))
    process = subprocess.Popen(["taskset", "--cpu-list", str(cpu), program, "1000"])
    wait_until_it_is(process.pid, "sleep")
    yield process
    process.kill()
    process.wait()
    subprocess.run(["umount", mount], check=True)


def wait_until_it_is(pid, comm):
    until_s = time.monotonic() + PATIENCE_S
    while "".join(read(pid, "comm")) != comm or read(pid, "stat")[0].rsplit(")")[1].split()[0] != "S":
        assert time.monotonic() < until_s
        time.sleep(0.02)


def all_of(pid, *, whole):
    """Wish that everything a process has on node 0 were on node 1."""
    ends = dict(line.split()[0].split("-") for line in read(pid, "maps"))
    rows = rows_on(pid, 0)
    starts = [int(row[0], 16) for row in rows]
    pages = sum(int(word[3:]) for row in rows for word in row if word.startswith("N0="))
    return MovePages(
        key_of(pid),
        np.array(starts, np.uint64),
        np.array([int(ends[row[0]], 16) for row in rows], np.uint64),
        np.full(len(rows), PAGE),
        sources=(0,),
        targets=(1,),
        limit_bytes=pages * PAGE,
        reason=Reason.MEMORY_FOLLOWS_CPU,
        whole=whole,
    )


@everywhere
def test_a_small_process_that_shares_nothing_goes_in_one_call(alone, calls):
    move = all_of(alone.pid, whole=True)

    outcome = act(move)

    assert (calls.by_process, calls.addresses) == (1, [])
    assert rows_on(alone.pid, 0) == []
    assert observer.resident_bytes(alone.pid)[1] >= move.limit_bytes
    assert (outcome.ending, outcome.moved_bytes) == (Ending.DONE, move.limit_bytes)


@everywhere
def test_a_small_process_that_shares_something_goes_page_by_page(alone, calls):
    move = all_of(alone.pid, whole=False)

    outcome = act(move)

    refused = outcome.failed.get("EACCES", 0)  # two segments of a program can map one page of its file
    assert calls.by_process == 0
    assert all("mapmax=2" in row for row in rows_on(alone.pid, 0))
    assert outcome.moved_bytes == move.limit_bytes - refused * PAGE


@everywhere
def test_a_large_process_goes_page_by_page_though_it_shares_nothing(workload, calls):
    running = workload("late-bound", "--mb=16")

    act(replace(move_of(running), whole=True))

    assert calls.by_process == 0
    assert len(pages_on(running, 1)) == 16 * MB // PAGE
