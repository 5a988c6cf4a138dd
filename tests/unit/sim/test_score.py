# SPDX-License-Identifier: Apache-2.0

"""A score says what a run gained and spent, from its ticks alone."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.model import Ending, Held, Mempolicy, Outcome, Refusal, RegionKind
from numad_py.sim.cost import Prices
from numad_py.sim.load import Machine
from numad_py.sim.score import Scorer
from tests.builders import job, move, process, regions, tick, topology

PRICES = Prices(np.array([[100.0, 200.0], [200.0, 100.0]]), memory_share=0.5)


def scored(*ticks):
    scorer = Scorer(PRICES)
    for one in ticks:
        scorer.add(one)
    return scorer.score


ROOMY = topology(cpus=64)


def looks(*processes, step_s=10.0):
    return [tick(time_s=100.0 + step_s * at, processes=[each]) for at, each in enumerate(processes)]


def test_accesses_are_remote_as_far_as_pages_are_elsewhere_than_cpus():
    score = scored(*looks(process(pages={0: 25, 1: 75}, cpu_s={0: 3.0, 1: 1.0})))

    assert score.remote_access_share == pytest.approx((3 * 0.75 + 1 * 0.25) / 4)
    assert score.accesses == pytest.approx(4 * 0.5 / 100e-9)


def test_a_busy_process_weighs_more_than_an_idle_one():
    busy, quiet = process(1, pages={1: 10}, cpu_s={0: 9.0}), process(2, pages={0: 10}, cpu_s={0: 1.0})

    assert scored(tick(processes=[busy, quiet])).remote_access_share == pytest.approx(0.9)


def test_modelled_time_waits_for_remote_memory_only_in_its_memory_share():
    score = scored(*looks(process(pages={1: 10}, cpu_s={0: 8.0})))

    assert score.modelled_s == pytest.approx(8 * 0.5 + 8 * 0.5 * 2)


def test_modelled_time_is_told_at_both_ends_of_what_nobody_knows():
    ends = tuple(replace(PRICES, memory_share=share) for share in (0.25, 0.75))
    scorer = Scorer(replace(PRICES, ends=ends))

    scorer.add(tick(processes=[process(pages={1: 10}, cpu_s={0: 8.0})]))

    assert scorer.score.modelled_ends_s == pytest.approx((8 * 1.25, 8 * 1.75))
    assert scorer.score.modelled_s == pytest.approx(8 * 1.5)


def test_modelled_time_waits_longer_for_memory_that_many_use():
    idle_ns = PRICES.latency_ns
    limited = Machine(idle_ns, np.full(2, 1.0), np.full((2, 2), np.inf), np.arange(2))
    scorer = Scorer(replace(PRICES, machine=limited))
    for time_s, cpu_s in ((100.0, 8.0), (110.0, 80.0)):
        scorer.add(tick(time_s=time_s, processes=[process(pages={0: 10}, cpu_s={0: cpu_s})], on=ROOMY))

    # 80 CPU seconds in 10 s wait half their time for 64 bytes in 100 ns: 2.56 GB/s are asked of 1 GB/s.
    assert scorer.score.modelled_s == pytest.approx(8 + 80 * 2.56, rel=1e-3)


def test_a_process_without_pages_reaches_for_nothing_remote():
    score = scored(*looks(process(cpu_s={0: 8.0})))

    assert (score.remote_accesses, score.modelled_s) == (0.0, 8.0)


def test_memory_is_local_on_the_node_that_is_home():
    score = scored(*looks(process(pages={0: 40, 1: 60}, cpu_s={0: 0.1, 1: 0.9})))

    assert score.local_share_end == pytest.approx(0.6)


def test_a_process_that_runs_on_two_nodes_has_two_homes():
    assert scored(*looks(process(pages={0: 40, 1: 60}, cpu_s={0: 0.4, 1: 0.6}))).local_share_end == 1.0


def test_a_process_that_sleeps_keeps_its_home():
    awake, asleep = process(pages={0: 40, 1: 60}, cpu_s={1: 1.0}), process(pages={0: 40, 1: 60})

    assert scored(*looks(awake, asleep)).local_share_end == pytest.approx(0.6)


def test_a_process_that_never_ran_says_nothing():
    score = scored(*looks(process(pages={0: 40, 1: 60})))

    assert (score.local_share_end, score.local_share_mean, score.settle_s) == (None, None, {})
    assert score.timeline == (None,)
    assert score.remote_access_share is None


def test_home_of_cpus_without_memory_is_the_nearest_memory():
    on = topology(node_bytes=0)
    on = replace(on, nodes=(on.nodes[0], replace(on.nodes[1], total_bytes=1 << 30)))

    assert (
        scored(tick(on=on, processes=[process(pages={1: 5}, cpu_s={0: 1.0}, on=on)])).local_share_end == 1.0
    )


def test_only_unbound_anonymous_memory_counts_as_local_or_not():
    rows = regions({0: 10}, {0: 100}, {0: 100}, {0: 30, 1: 10})
    rows = replace(
        rows,
        mempolicy=np.array([Mempolicy.DEFAULT, Mempolicy.BIND, Mempolicy.DEFAULT, Mempolicy.LOCAL]),
        kind=np.array([RegionKind.ANON, RegionKind.ANON, RegionKind.FILE, RegionKind.FILE]),
        anon_pages=np.array([10, 100, 0, 20]),
    )

    assert scored(*looks(process(regions=rows, cpu_s={0: 1.0}))).local_share_end == pytest.approx(25 / 30)


def test_the_mean_is_weighted_by_time():
    away, home = process(pages={0: 1}, cpu_s={1: 1.0}), process(pages={1: 1}, cpu_s={1: 1.0})

    score = scored(*(tick(time_s=at, processes=[each]) for at, each in ((0, away), (10, away), (40, home))))

    assert score.local_share_mean == pytest.approx(30 / 40)
    assert (score.ticks, score.elapsed_s) == (3, 40)


def test_a_job_has_settled_from_when_its_memory_stays_local():
    away, home = process(pages={0: 10, 1: 90}, cpu_s={1: 1.0}), process(pages={0: 5, 1: 95}, cpu_s={1: 1.0})

    score = scored(*looks(away, home, away, home, home))

    assert score.settle_s == {"/train.slice/job": 30.0}


def test_the_time_to_settle_counts_from_the_first_look_though_home_is_known_only_later():
    unknown, home = process(pages={1: 1}), process(pages={1: 1}, cpu_s={1: 1.0})

    assert scored(*looks(unknown, home)).settle_s == {"/train.slice/job": 10.0}


def test_the_slowest_job_is_shown_and_never_is_slower_than_any():
    def jobs(late):
        at_home, roaming = (
            process(1, pages={1: 1}, cpu_s={1: 1.0}),
            process(2, pages={late: 1}, cpu_s={1: 1.0}),
        )
        return [job(at_home, path="/a", cgroup_id=1), job(roaming, path="/b", cgroup_id=2)]

    settled = scored(tick(time_s=1, jobs=jobs(0)), tick(time_s=5, jobs=jobs(1)))
    never = scored(tick(time_s=1, jobs=jobs(1)), tick(time_s=5, jobs=jobs(0)))

    assert (settled.settle_s, settled.worst_settle_s) == ({"/a": 0.0, "/b": 4.0}, 4.0)
    assert (never.settle_s, never.worst_settle_s) == ({"/a": 0.0, "/b": None}, None)


def test_a_cgroup_made_anew_at_the_same_path_is_another_job():
    here = process(1, pages={1: 1}, cpu_s={1: 1.0})

    score = scored(*(tick(jobs=[job(here, path="/a", cgroup_id=each)]) for each in (1, 2)))

    assert score.settle_s == {"/a (cgroup 1)": 0.0, "/a (cgroup 2)": 0.0}


def test_moves_are_counted_with_their_endings_failures_and_cost():
    busy = process(1, pages={0: 512}, cpu_s={1: 2.5})
    wish = move(busy)
    done = Outcome(Ending.DONE, moved_bytes=4096 * 300, took_s=0.5)
    refused = Outcome(Ending.REFUSED, failed={"EACCES": 7}, took_s=0.25)
    held = (Held(busy.key, 4096, Refusal.RATE), Held(busy.key, 8192, Refusal.RATE))

    first = tick(time_s=0, processes=[busy], moves=[wish, wish], outcomes=[done, refused], held=held)
    score = scored(first, tick(time_s=10, processes=[busy], moves=[wish], outcomes=[done]))

    assert (score.moved_bytes, score.moved_pages) == (4096 * 600, 600)
    assert (score.decisions, score.held, score.held_bytes) == (3, 2, 12288)
    assert (score.endings, score.failed_pages) == ({"done": 2, "refused": 1}, {"EACCES": 7})
    assert score.moving_s == pytest.approx(1.25)


def test_a_job_is_blocked_by_moves_only_while_it_runs():
    def moving(cpu_s, time_s):
        each = process(pages={1: 512}, cpu_s=cpu_s, on=ROOMY)
        done = Outcome(Ending.DONE, took_s=0.5)
        return tick(time_s=time_s, processes=[each], on=ROOMY, moves=[move(each)], outcomes=[done])

    score = scored(moving({}, 0), moving({1: 2.5}, 10), moving({1: 40.0}, 20))

    assert score.blocked_s == pytest.approx(0 + 0.5 * 0.25 + 0.5)
    assert score.modelled_s == pytest.approx(42.5 + score.blocked_s)
