# SPDX-License-Identifier: Apache-2.0

"""The model of kernel balancing follows private memory, at the pace of its scans, and is blind where the kernel is."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.model import Accesses, AccessSource, Mempolicy, RegionKind, ThreadGroup
from numad_py.sim.baselines.kernel_balancing import KernelBalancing
from numad_py.sim.baselines.scan_period import MAX_SCAN_WINDOW_MB, SCAN_DELAY_MS
from tests.builders import MIB, regions, threads
from tests.unit.sim.baselines.runs import ON, PAGES_OF_A_MIB, live, looks, moved_mb, running


def wandering(stay_s, mb=150):
    """Run on one node, then on the other, for as long each time."""
    return lambda time_s: running({0: mb}, {int(time_s // stay_s) % 2: 0.5})


def test_late_bound_memory_is_home_after_its_first_scan():
    _, score, hold = live(looks(lambda _: running({0: 150}, {1: 0.5}), 20), KernelBalancing())

    assert score.local_share_end == 1.0
    assert score.worst_settle_s <= 2 * SCAN_DELAY_MS / 1000
    assert hold.local_share_end == 0.0


def test_large_memory_comes_home_no_faster_than_the_scan_rate():
    ticks, score, _ = live(looks(lambda _: running({0: 6000}, {1: 4 * 0.5}), 20), KernelBalancing())

    assert (
        max(moved_mb(ticks)) <= 1.25 * MAX_SCAN_WINDOW_MB * 0.5
    )  # a look is half a second; windows are in pieces
    assert 6000 / MAX_SCAN_WINDOW_MB < score.worst_settle_s < 10


@pytest.mark.parametrize(
    "blind",
    [
        {"mapmax": 2},
        {"mempolicy": Mempolicy.BIND},
        {"mempolicy": Mempolicy.LOCAL},
        {"kind": RegionKind.FILE},
        {"page_bytes": 2 * MIB},
    ],
    ids=str,
)
def test_what_the_scanner_passes_over_never_moves_and_costs_nothing(blind):
    held = regions({0: 150 * PAGES_OF_A_MIB // (blind.get("page_bytes", 4096) // 4096)}, on=ON, **blind)

    ticks, score, _ = live(looks(lambda _: running({}, {1: 0.5}, regions=held), 20), KernelBalancing())

    assert sum(moved_mb(ticks)) == 0
    assert score.blocked_s == 0


def test_a_process_that_sleeps_keeps_its_memory_where_it_is():
    ticks, score, _ = live(
        looks(lambda time_s: running({0: 150}, {1: 0.5} if time_s < 0.5 else {}), 20), KernelBalancing()
    )

    assert sum(moved_mb(ticks)) == 0
    assert score.blocked_s == 0


def test_memory_stays_within_the_cpuset():
    ticks, _, _ = live(
        looks(lambda _: running({0: 150}, {1: 0.5}, nodes_allowed=(0,)), 20), KernelBalancing()
    )

    assert sum(moved_mb(ticks)) == 0


def test_a_job_that_changes_node_every_25_s_is_followed_each_time():
    ticks, score, hold = live(looks(wandering(25), 80), KernelBalancing())

    assert score.remote_access_share < hold.remote_access_share / 3
    assert 3 * 150 <= sum(moved_mb(ticks)) <= 4 * 150


def test_a_job_that_changes_node_every_2_s_is_followed_for_ever_and_never_settles():
    ticks, score, _ = live(looks(wandering(2), 80), KernelBalancing())

    half = len(ticks) // 2
    assert sum(moved_mb(ticks[:half])) > 2 * 150
    assert sum(moved_mb(ticks[half:])) > 2 * 150
    assert score.worst_settle_s is None


def test_two_threads_that_use_a_half_each_get_it_once_it_is_known_who_uses_what():
    def at(time_s):
        each = running({0: 150}, {0: 0.5, 1: 0.5})
        return replace(each, accesses=by_halves(each)) if time_s == 1 else each

    ticks, _, _ = live(looks(at, 20), KernelBalancing())

    pages = ticks[-1].snapshot.processes[0].regions.pages
    assert (pages[:, 0] == 0).tolist() == [False, True]
    assert (pages[:, 1] == 0).tolist() == [True, False]


def by_halves(each):
    """Let thread 1000 use the lower half of its memory from node 0, and thread 1001 the upper one from node 1."""
    start, end = int(each.regions.start[0]), int(each.regions.end[0])
    middle = (start + end) // 2
    groups = (
        ThreadGroup(0, np.array([1000]), np.array([1.0, 0.0])),
        ThreadGroup(1, np.array([1001]), np.array([0.0, 1.0])),
    )
    bounds = np.array([start, middle, end], np.uint64)
    counts = np.array([[100, 0], [0, 100]])
    return Accesses(AccessSource.HINT_FAULTS, groups, bounds[:-1], bounds[1:], counts, None, 5.0)


def test_memory_that_two_nodes_share_ends_up_on_both():
    ticks, _, _ = live(looks(lambda _: running({0: 150}, {0: 0.5, 1: 0.5}), 60), KernelBalancing())

    share = ticks[-1].snapshot.processes[0].regions.pages[0] / (150 * PAGES_OF_A_MIB)
    assert share.tolist() == pytest.approx([0.5, 0.5], abs=0.1)


def test_faults_on_memory_that_is_home_already_cost_less_and_less():
    at_home = running({0: 1000}, {}, threads=threads({0: 0.5}, on=ON))
    four = replace(at_home.threads, tid=np.arange(4), cpu=np.zeros(4, np.int64), cpu_s=np.full(4, 0.5))
    policy, stalled_s = KernelBalancing(), []
    for one in looks(lambda _: replace(at_home, threads=four), 60):
        policy.decide(one.snapshot)
        stalled_s.append(sum(policy.stalled_s.values()))

    half = len(stalled_s) // 2
    assert 0 < sum(stalled_s[half:]) < sum(stalled_s[:half]) / 2


def test_a_single_thread_never_faults_on_memory_that_is_home():
    _, score, _ = live(looks(lambda _: running({1: 150}, {1: 0.5}), 20), KernelBalancing())

    assert score.blocked_s == 0


def test_what_it_costs_is_charged_to_the_job():
    _, score, _ = live(looks(lambda _: running({0: 150}, {1: 0.5}), 20), KernelBalancing())

    assert score.blocked_s > score.moving_s > 0


def test_a_full_node_takes_nothing():
    full = running({1: 8000}, {1: 0.5}, pid=7)
    ticks, _, _ = live(looks(lambda _: (full, running({0: 150}, {1: 0.5})), 20), KernelBalancing())

    free = [one.snapshot.memory.free_bytes[1] for one in ticks]
    assert sum(moved_mb(ticks)) <= 150
    assert min(free) >= 0


def test_the_same_day_gives_the_same_plans():
    recorded = looks(wandering(3, mb=700), 30)

    runs = [moved_mb(live(recorded, KernelBalancing())[0]) for _ in range(2)]

    assert runs[0] == runs[1]
