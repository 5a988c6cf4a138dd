# SPDX-License-Identifier: Apache-2.0

"""The oracle is never worse than any policy, and where nothing limits it, exactly the best there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py import guard
from numad_py.policies.hold import Hold
from numad_py.policies.interleave import Interleave, InterleaveParameters
from numad_py.policies.threshold import Threshold, ThresholdParameters
from numad_py.sim.cost import default_prices
from numad_py.sim.oracle import Oracle
from numad_py.sim.replay import replay
from numad_py.sim.score import Scorer
from tests.builders import TWO_NODES, process, regions, tick

PRICES = default_prices(TWO_NODES)
MOVES = dict(PRICES.move_ns)
PAGES = 1000
cores = st.sampled_from([{}, {0: 1.0}, {1: 1.0}, {0: 0.25, 1: 0.75}, {1: 0.01}])


def bound_s(looks):
    """Give the oracle's time for these looks, in which nothing is moved."""
    oracle = Oracle(PRICES)
    for turn in replay(looks, {"hold": Hold()}, PRICES):
        oracle.add(turn["hold"])
    return oracle.modelled_s


def contenders():
    """Make policies anew, without a limit that would hold them back."""
    limits = guard.Limits(headroom_mb=0.0)
    eager = ThresholdParameters(patience=1, least_remote_mb=0.0, least_cpu_s=0.0)
    return {
        "hold": Hold(),
        "threshold": guard.Guard(Threshold(eager), limits),
        "interleave": guard.Guard(Interleave(InterleaveParameters(patience=1, least_mb=0.0)), limits),
    }


def looks_of(demand, pages=(PAGES, 0)):
    """Give a look a second at one process that runs as ``demand`` says."""
    held = dict(enumerate(pages))
    return [
        tick(time_s=float(at), processes=[process(pages=held, cpu_s=cpu)]) for at, cpu in enumerate(demand)
    ]


def cheapest_s(demand):
    """Try every way that memory which starts on node 0 could go, all of it at once."""
    slower = PRICES.latency_ns / np.diag(PRICES.latency_ns)[:, None]

    def way_s(ways):
        spent_s, at = 0.0, 0
        for second, (cpu, then) in enumerate(zip(demand, ways, strict=True)):
            used_s = sum(cpu.values())
            waited_s = sum(seconds * slower[node, at] for node, seconds in cpu.items())
            spent_s += (1 - PRICES.memory_share) * used_s + PRICES.memory_share * waited_s
            busy = min(used_s, 1.0) if second else float(used_s > 0)
            spent_s += (then != at) * busy * PAGES * MOVES[4096] * 1e-9
            at = then
        return spent_s

    return min(way_s(ways) for ways in itertools.product((0, 1), repeat=len(demand)))


@given(st.lists(cores, min_size=1, max_size=7))
def test_it_finds_the_best_of_all_ways(demand):
    assert bound_s(looks_of(demand)) == pytest.approx(cheapest_s(demand), rel=1e-9)


@given(st.lists(st.tuples(cores, st.integers(0, 5000), cores, st.integers(0, 500)), min_size=1, max_size=6))
def test_no_policy_is_better(run):
    """Processes only grow: what goes is taken from each node in proportion, which rounds to whole pages."""
    sizes = np.cumsum([[mine, its] for _, mine, _, its in run], axis=0).tolist()
    looks = [
        tick(
            time_s=float(at),
            processes=[process(1, pages={0: mine}, cpu_s=first), process(2, pages={1: its}, cpu_s=second)],
        )
        for at, ((first, _, second, _), (mine, its)) in enumerate(zip(run, sizes, strict=True))
    ]
    scorers = {name: Scorer(PRICES) for name in contenders()}
    for turn in replay(looks, contenders(), PRICES):
        for name, one in turn.items():
            scorers[name].add(one)

    least_s = bound_s(looks)

    assert all(least_s <= scorer.score.modelled_s * (1 + 1e-9) for scorer in scorers.values())


def test_what_may_not_move_pays_where_it_is():
    at_rest = looks_of([{1: 1.0}] * 20)
    shared = regions({0: PAGES}, mapmax=2)
    bound = [tick(time_s=float(at), processes=[process(regions=shared, cpu_s={1: 1.0})]) for at in range(20)]
    scorer = Scorer(PRICES)
    for one in bound:
        scorer.add(one)

    assert bound_s(bound) == pytest.approx(scorer.score.modelled_s)
    assert bound_s(at_rest) < bound_s(bound)


def test_nothing_goes_outside_the_cpuset():
    def looks(allowed):
        return [
            tick(
                time_s=float(at), processes=[process(pages={0: PAGES}, cpu_s={1: 1.0}, nodes_allowed=allowed)]
            )
            for at in range(20)
        ]

    assert bound_s(looks((0,))) > bound_s(looks((0, 1)))


def test_a_process_without_pages_waits_as_if_all_were_local():
    assert bound_s([tick(time_s=0.0, processes=[process(pages={}, cpu_s={1: 2.0})])]) == pytest.approx(2.0)


def test_looks_at_nobody_cost_nothing():
    assert bound_s([tick(time_s=0.0), tick(time_s=1.0)]) == 0
