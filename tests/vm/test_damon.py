# SPDX-License-Identifier: Apache-2.0

"""DAMON tells which worker heats which part of what all of them share; it has one user, and is left as it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import damon, maps, node_sysfs, numa_maps
from numad_py.model import Process, Threads
from numad_py.sense.investigate import damon_claim
from numad_py.sense.investigate.damon_watch import Damon
from tests.vm import fill
from tests.vm.moving import key_of
from tests.vm.running import PATIENCE_S

pytestmark = pytest.mark.guest("four-nodes")

ADMIN = Path("/sys/kernel/mm/damon/admin/kdamonds")
RECLAIM = Path("/sys/module/damon_reclaim/parameters/enabled")
MB = 160
NO_THREADS = Threads(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
OWNER = "import sys, tests.vm.test_damon as test; test.own(*sys.argv[1:])"


@pytest.fixture(scope="module")
def topology():
    return node_sysfs.read_topology()


@pytest.fixture
def state(tmp_path):
    """Give a place for the state file, and hold the test to leaving DAMON as it was: free."""
    assert damon.kdamonds() == 0
    yield tmp_path / "damon"
    left = damon.kdamonds()
    damon.release()
    assert left == 0


@pytest.fixture
def shards(workload):
    """Start workers that share one array, each reading its part; give the array and them, by shard."""

    def start(workers, *, rest_s):
        parent = workload("shards", f"--mb={MB}", f"--workers={workers}", f"--rest-s={rest_s}")
        _, *pids = parent.ask("workers")
        return parent, [int(pid) for pid in pids]

    return start


def process_of(pid, topology):
    placed = numa_maps.parse(numa_maps.read(pid), topology.node_ids, topology.page_bytes)
    mapped = maps.parse(maps.read(pid))
    regions = numa_maps.regions(placed, mapped.start, mapped.end)
    return Process(key_of(pid), "python3", topology.node_ids, NO_THREADS, regions, 0.0)


def right_shares(parent, pids, seen):
    """Give, by shard, the share of its accesses that its own worker made; 0 where there are none."""
    step = (parent.end - parent.start) // len(pids)
    shares = []
    for index in range(len(pids)):
        low = parent.start + index * step
        heat = {key.pid: heat_within(accesses, low, low + step) for key, accesses in seen.items()}
        shares.append(heat.get(pids[index], 0) / max(sum(heat.values()), 1))
    return shares


def heat_within(accesses, low, high):
    rows = zip(accesses.start.tolist(), accesses.end.tolist(), accesses.counts[:, 0].tolist(), strict=True)
    return sum(max(min(end, high) - max(start, low), 0) * count for start, end, count in rows)


def watch(watching, parent, pids, *, until_share, limit_s):
    """Collect until the least of all shares is as wanted, or time is up; give the shares of each look."""
    began_s, looks = time.monotonic(), []
    while time.monotonic() < began_s + limit_s and not (looks and min(looks[-1]) >= until_share):
        if seen := watching.collect():
            looks.append(right_shares(parent, pids, seen))
            mean, took_s = sum(looks[-1]) / len(pids), time.monotonic() - began_s
            regions = sum(len(accesses.start) for accesses in seen.values())
            print(f"\n{took_s:5.1f} s: {mean:.3f} right, {regions} regions, {watching.cost_s:.2f} s", end="")
    return looks


def test_two_workers_on_the_halves_of_one_array_are_told_apart(shards, topology, state, promise):
    parent, pids = shards(2, rest_s=0)
    watching = Damon(topology, state=state)
    began_s = time.monotonic()

    assert watching.start([process_of(pid, topology) for pid in pids]), watching.problems
    looks = watch(watching, parent, pids, until_share=0.9, limit_s=60)
    took_s = time.monotonic() - began_s
    cost_s = watching.cost_s
    watching.stop()

    assert min(looks[-1]) >= 0.9, (looks, watching.problems)
    promise("seconds until 90 % of the accesses to each half are its own worker's", took_s, at_most=10)
    promise("share of a core", cost_s / took_s, at_most=0.12)


@pytest.mark.parametrize(("workers", "right"), [(16, 0.75), (90, 0.2)])
def test_many_workers_are_told_apart_and_the_second_time_at_the_price_that_was_learnt(
    workers, right, shards, topology, state, promise
):
    parent, pids = shards(workers, rest_s=0.002 * workers)
    processes = [process_of(pid, topology) for pid in pids]
    watching = Damon(topology, state=state)

    for _ in range(2):
        began_s = time.monotonic()
        assert watching.start(processes), watching.problems
        print(f"\n{watching.pace} set up in {time.monotonic() - began_s:.1f} s", end="")
        looks = watch(watching, parent, pids, until_share=0.9, limit_s=10)
        cost_s, took_s = watching.cost_s, time.monotonic() - began_s
        watching.stop()

    assert sum(looks[-1]) / workers >= right, watching.problems
    promise("share of a core", cost_s / took_s, at_most=0.12)


def test_what_was_seen_while_reclaim_ran_is_not_given(shards, topology, state, tmp_path):
    _, pids = shards(2, rest_s=0.01)
    watching = Damon(topology, state=state)
    with fill.disk(tmp_path) as mount:
        watching.start([process_of(pid, topology) for pid in pids])
        assert watching.collect(), watching.problems

        fill.clean_cache(1, mount, 850)
        during = watching.collect()
        after = watching.collect()
    watching.stop()

    assert during == {}
    assert watching.problems == ["reclaim ran while DAMON watched: what it saw is not valid"]
    assert after


def test_a_worker_that_ends_is_left_out_and_the_others_are_still_seen(shards, topology, state):
    _, pids = shards(2, rest_s=0.01)
    watching = Damon(topology, state=state)
    watching.start([process_of(pid, topology) for pid in pids])

    os.kill(pids[0], signal.SIGKILL)
    seen = watching.collect()
    watching.stop()

    assert [key.pid for key in seen] == pids[1:]


def test_nothing_is_left_once_all_processes_have_ended(shards, topology, state):
    parent, pids = shards(2, rest_s=0.01)
    watching = Damon(topology, state=state)
    watching.start([process_of(pid, topology) for pid in pids])

    parent.close()
    until_s = time.monotonic() + PATIENCE_S
    while watching.collect() or damon.kdamonds():
        assert time.monotonic() < until_s, watching.problems

    assert "DAMON was ended" in watching.problems[-1]


def own(state, pid):
    """Watch one process, say so, and wait to be killed."""
    topology = node_sysfs.read_topology()
    watching = Damon(topology, state=Path(state))
    print(watching.start([process_of(int(pid), topology)]), flush=True)
    time.sleep(600)


@pytest.fixture
def owner(state, shards):
    """Start another process that watches a worker; give it once it does."""
    _, pids = shards(1, rest_s=0.01)
    words = [sys.executable, "-c", OWNER, str(state), str(pids[0])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_what_a_killed_owner_left_is_found_and_removed(owner, state):
    kdamond = damon.kdamond()
    assert kdamond is not None
    assert not damon_claim.release_stale(state)
    assert damon.kdamond() == kdamond

    owner.kill()
    owner.wait()

    assert damon.kdamond() == kdamond, "the kernel's thread should have gone on"
    assert damon_claim.release_stale(state)
    assert damon.kdamonds() == 0
    assert not damon_claim.release_stale(state)


def test_the_next_start_removes_what_a_killed_owner_left(owner, state, topology):
    owner.kill()
    owner.wait()
    watching = Damon(topology, state=state)

    assert watching.start([process_of(os.getpid(), topology)]), watching.problems

    assert damon.watched() == (os.getpid(),)
    watching.stop()


def test_what_another_set_up_after_a_killed_owner_is_not_touched(owner, state):
    owner.kill()
    owner.wait()
    damon.release()
    damon.claim()
    theirs = damon.identity()

    assert not damon_claim.release_stale(state)

    assert damon.identity() == theirs
    damon.release()


def test_another_user_of_damon_is_given_way_to(state, topology):
    damon.claim()
    theirs = damon.identity()
    watching = Damon(topology, state=state)

    assert not watching.start([process_of(os.getpid(), topology)])

    assert watching.problems == ["DAMON has another user: kdamonds/nr_kdamonds is 1"]
    assert damon.identity() == theirs
    damon.release()


def test_the_kernels_own_use_of_damon_is_given_way_to(state, topology):
    RECLAIM.write_text("Y")
    watching = Damon(topology, state=state)

    try:
        assert not watching.start([process_of(os.getpid(), topology)])
    finally:
        RECLAIM.write_text("N")

    assert watching.problems == ["DAMON has another user: damon_reclaim is on"]


def test_one_who_takes_damon_while_we_watch_keeps_it(state, topology):
    watching = Damon(topology, state=state)
    watching.start([process_of(os.getpid(), topology)])
    damon.release()
    damon.claim()
    theirs = damon.identity()

    assert watching.collect() == {}
    watching.stop()

    assert damon.identity() == theirs
    damon.release()
