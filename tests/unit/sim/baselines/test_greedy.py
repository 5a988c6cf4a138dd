# SPDX-License-Identifier: Apache-2.0

"""The greedy baseline moves what its prices say is worth it, the best first, and never more than its budget."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numad_py.sim.baselines.greedy import Greedy
from tests.builders import GIB, MIB, move, node_memory, snapshot, tick
from tests.unit.sim.baselines.runs import ON, PRICES, live, looks, moved_mb, running

amounts = st.integers(0, 500)
seconds = st.floats(0, 8)
processes = st.lists(
    st.tuples(st.tuples(amounts, amounts), st.tuples(seconds, seconds)), min_size=1, max_size=4
)


def second_look(shapes):
    """Give the first look at processes, and a second one after a second."""
    each = [
        running(dict(enumerate(mb)), dict(enumerate(cpu_s)), pid=1000 + index)
        for index, (mb, cpu_s) in enumerate(shapes)
    ]
    return [snapshot(time_s, processes=each, on=ON) for time_s in (0.0, 1.0)]


def planned(policy, looks_):
    """Give the moves of the last look."""
    return [policy.decide(look) for look in looks_][-1].moves


@given(processes, st.integers(0, GIB))
def test_the_bytes_wished_never_exceed_the_budget(shapes, budget_bytes):
    moves = planned(Greedy(PRICES, budget_bytes=budget_bytes), second_look(shapes))

    assert sum(each.limit_bytes for each in moves) <= budget_bytes


@given(processes, st.floats(0, 100))
def test_no_move_is_planned_that_costs_more_than_it_saves(shapes, horizon_s):
    looks_ = second_look(shapes)

    for each in planned(Greedy(PRICES, horizon_s=horizon_s), looks_):
        process = next(one for one in looks_[1].processes if one.key == each.process)
        cpu_s = ON.cpu_s_by_node(process.threads.cpu, process.threads.cpu_s)
        source, target = each.sources[0], each.targets[0]
        part = each.limit_bytes / process.regions.resident_bytes.sum()
        nearer_ns = cpu_s @ (PRICES.latency_ns[:, source] - PRICES.latency_ns[:, target])
        saved_ns = nearer_ns * PRICES.accesses_per_cpu_s * part * horizon_s
        cost_ns = each.limit_bytes / 4096 * PRICES.page_ns(np.array([4096]))[0] + PRICES.call_ns
        assert saved_ns > cost_ns * (1 - 1e-9)


def test_memory_comes_home():
    _, score, _ = live(looks(lambda _: running({0: 500}, {1: 4 * 0.5}), 10), Greedy(PRICES))

    assert score.local_share_end == 1.0


def test_what_saves_most_for_each_byte_comes_first():
    idle, busy = running({0: 400}, {1: 1.0}, pid=1), running({0: 400}, {1: 4.0}, pid=2)

    ticks, _, _ = live(looks(lambda _: (idle, busy), 3, every_s=1), Greedy(PRICES, budget_bytes=100 * MIB))

    assert [each.process.pid for one in ticks[1:] for each in one.plan.moves] == [2, 2, 2]
    assert moved_mb(ticks)[1:] == [100] * 3


def test_a_visit_that_is_too_short_to_pay_is_not_followed():
    policy = Greedy(PRICES, horizon_s=0.01)

    ticks, _, _ = live(looks(lambda _: running({0: 500}, {1: 0.5}), 10), policy)

    assert sum(moved_mb(ticks)) == 0


def test_nothing_goes_where_there_is_no_room():
    full = node_memory(on=ON, free={0: GIB, 1: 10 * MIB}, high_watermark=8 * MIB)
    wishing = running({0: 500}, {1: 1.0})
    policy = Greedy(PRICES)
    policy.decide(snapshot(0.0, processes=[wishing], on=ON, memory=full))

    moves = policy.decide(snapshot(1.0, processes=[wishing], on=ON, memory=full)).moves

    assert [each.limit_bytes for each in moves] == [2 * MIB]


def test_what_cannot_move_is_not_asked_for():
    shared = running({0: 500}, {1: 1.0})
    shared = replace(shared, regions=replace(shared.regions, mapmax=np.array([2])))

    assert planned(Greedy(PRICES), [snapshot(t, processes=[shared], on=ON) for t in (0.0, 1.0)]) == ()


def test_nothing_is_planned_without_processes():
    assert planned(Greedy(PRICES), [tick(on=ON).snapshot] * 2) == ()


def test_wishes_look_like_any_other():
    wanted = running({0: 500}, {1: 1.0})

    (found,) = planned(Greedy(PRICES), [snapshot(t, processes=[wanted], on=ON) for t in (0.0, 1.0)])

    assert found.start.tolist() == move(wanted).start.tolist()
    assert (found.sources, found.targets, found.limit_bytes) == ((0,), (1,), 500 * MIB)
