# SPDX-License-Identifier: Apache-2.0

"""What several nodes use hard is spread over them; what one node's memory can serve, or nobody streams, stays."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.model import Decision, JobCounters, Reason, RegionKind
from numad_py.policies import spreading
from numad_py.policies.homes import SEVERAL
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests.builders import MIB, job, process, regions, snapshot, threads, topology

ON = topology(cpus=10)
PAGES = 64 * MIB // 4096
ALL_ON_0, EVEN = {0: PAGES}, {0: PAGES // 2, 1: PAGES // 2}
BUSY = {0: 0.99, 1: 0.98}
COUNTED = JobCounters(1.0, {}, verified=True)


def streaming(pages=ALL_ON_0, busy=BUSY, *, each=8, pid=1000, on=ON, **more):
    """Give a process with so many threads on each node, each busy for so much of a second."""
    ran = threads({}, on)
    for node, cpu_s in busy.items():
        first = on.nodes[on.index_of[node]].cpus[0]
        ran = replace(
            ran,
            tid=np.append(ran.tid, pid + len(ran.tid) + np.arange(each)),
            cpu=np.append(ran.cpu, first + np.arange(each)),
            cpu_s=np.append(ran.cpu_s, np.full(each, cpu_s)),
        )
    return process(pid, pages=pages, threads=ran, on=on, **more)


def decide(*looks, on=ON, patience=2):
    policy = Threshold(ThresholdParameters(patience=patience, at_once_within_s=0.0))
    plans = [
        policy.decide(snapshot(float(time_s), jobs=[each if hasattr(each, "path") else job(each)], on=on))
        for time_s, each in enumerate(looks)
    ]
    return policy, plans


def wishes(one, on=ON):
    seen = snapshot(jobs=[one if hasattr(one, "path") else job(one)], on=on)
    return spreading.wishes(seen, np.array([SEVERAL]), seen.cpu_s, {}, spreading.computing(seen.jobs, ()))


def asked(plan):
    return [(move.reason, move.sources, move.targets, move.limit_bytes // 4096) for move in plan.moves]


def test_memory_that_two_nodes_use_hard_is_spread_over_them_after_some_looks():
    _, plans = decide(*[streaming()] * 3)

    spread = [(Reason.SPREAD, (0,), (0, 1), PAGES // 2)]
    assert [asked(plan) for plan in plans] == [[], spread, spread]


def test_what_lies_evenly_stays():
    _, plans = decide(*[streaming(EVEN)] * 4)

    assert [asked(plan) for plan in plans] == [[]] * 4


def test_what_was_begun_goes_on_until_hardly_anything_is_uneven():
    nearly = streaming({0: PAGES * 55 // 100, 1: PAGES * 45 // 100})

    _, plans = decide(streaming(), streaming(), nearly)
    _, untouched = decide(nearly, nearly, nearly)

    assert [len(plan.moves) for plan in plans] == [0, 1, 1]
    assert [len(plan.moves) for plan in untouched] == [0, 0, 0]


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(streaming(each=5), id="no more cores than a node has"),
        pytest.param(streaming(busy={0: 0.99, 1: 0.05}), id="hardly any on the other node"),
        pytest.param(streaming(nodes_allowed=(0,)), id="a node that it may not use"),
        pytest.param(streaming(busy={0: 1.9, 1: 1.9}), id="more than the CPUs can have given"),
        pytest.param(
            replace(job(streaming()), counters=replace(COUNTED, memory_bound=False)), id="a job that computes"
        ),
    ],
)
def test_nothing_is_spread_for(one):
    assert wishes(one) == {}


def test_a_job_of_which_counters_do_not_know_is_taken_to_stream():
    found = wishes(replace(job(streaming()), counters=COUNTED))

    assert [wish.targets for wish in found.values()] == [(0, 1)]


def test_a_job_that_computes_is_left_alone_also_at_looks_that_did_not_count():
    computes = replace(job(streaming()), counters=replace(COUNTED, memory_bound=False))

    _, plans = decide(computes, *[streaming()] * 4)
    _, later = decide(computes, *[replace(job(streaming()), counters=COUNTED)] * 2, *[streaming()] * 2)

    assert [len(plan.moves) for plan in plans] == [0] * 5
    assert later[-1].moves


def test_small_nodes_serve_seven_cores_however_few_they_have():
    on = topology(cpus=3)

    found = wishes(streaming(each=3, on=on), on=on)

    assert found == {}


def test_the_saving_is_what_waits_less_for_bandwidth_and_distance_alone_saves_nothing():
    crowded, even = (wishes(streaming(pages))[0] for pages in (ALL_ON_0, EVEN))

    cores = 8 * 0.99 + 8 * 0.98
    near_and_far = (8 * 0.99 + 8 * 0.98 * 1.6) * cores / 10
    spread = cores * (1 + 1.6) / 2
    assert crowded.saving_ns_per_s == pytest.approx((near_and_far - spread) * 0.3 * 1e9, rel=1e-3)
    assert even.saving_ns_per_s == pytest.approx(0)


def test_who_runs_on_several_nodes_is_told_that_it_is_spread_and_by_what_figures():
    policy, _ = decide(*[streaming()] * 2)

    told = policy.explain(streaming().key)

    assert (told.decision, told.targets) == (Decision.MOVE, (0, 1))
    assert {"remote_share", "payback_s"} <= {each.figure for each in told.compared}


def workers(pages=ALL_ON_0, busy=BUSY, **more):
    """Give a job of two workers, one on each node, that map the same memory."""
    held = regions(pages, on=ON, mapmax=2, backing=5, **more)
    (node_0, busy_0), (node_1, busy_1) = busy.items()
    return job(
        streaming(busy={node_0: busy_0}, pid=1, regions=held),
        streaming(busy={node_1: busy_1}, pid=2, regions=held),
    )


@pytest.mark.parametrize("kind", [RegionKind.ANON, RegionKind.FILE])
def test_what_workers_of_two_nodes_share_is_spread_for_all_once_nobody_told_who_uses_what(kind):
    _, plans = decide(*[workers(kind=kind)] * 33)

    spread = [
        (move.reason, move.targets, move.limit_bytes // 4096, len(move.among)) for move in plans[-1].moves
    ]
    assert [len(plan.moves) for plan in plans] == [0] * 31 + [1] * 2
    assert spread == [(Reason.SPREAD, (0, 1), PAGES // 2, 2)]
    assert plans[-1].moves[0].figures["remote_share"] == 0.5


def test_what_workers_share_and_is_spread_is_not_moved_home_by_any_of_them():
    _, plans = decide(*[workers(EVEN)] * 40)

    assert [plan.moves for plan in plans] == [()] * 40


def test_what_few_workers_share_is_not_spread():
    few = {0: 0.2, 1: 0.2}

    _, plans = decide(*[workers(busy=few)] * 40)

    assert [move.reason for plan in plans for move in plan.moves if move.among] == []


@pytest.mark.parametrize(
    ("pages", "away"),
    [
        ({2: PAGES}, PAGES),
        ({0: PAGES * 95 // 100, 2: PAGES * 5 // 100}, 0),
        ({0: PAGES * 88 // 100, 2: PAGES * 12 // 100}, 0),
    ],
)
def test_memory_where_none_of_its_threads_runs_comes_among_them_however_few_they_are(pages, away):
    on = topology(3, cpus=10)

    found = wishes(streaming(pages, each=2, on=on), on=on)

    assert [(wish.targets, wish.remote_bytes // 4096) for wish in found.values()] == [((0, 1), away)] * bool(
        away
    )


def test_memory_of_nodes_without_cpus_is_spread_over_those_that_use_it():
    on = topology(3, cpus=10, cpuless=(2,))

    _, plans = decide(*[streaming({2: PAGES}, each=2, on=on)] * 3, on=on)

    assert asked(plans[-1]) == [(Reason.SPREAD, (2,), (0, 1), PAGES)]


def test_of_many_nodes_that_use_it_alike_each_has_its_part():
    on = topology(12, cpus=10)

    found = wishes(streaming({0: PAGES}, dict.fromkeys(range(12), 0.9), on=on), on=on)

    assert [wish.targets for wish in found.values()] == [tuple(range(12))]
