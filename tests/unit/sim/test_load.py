# SPDX-License-Identifier: Apache-2.0

"""Load makes memory late, and no server gives more than its limit, whatever is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py import machines
from numad_py.sim import load
from numad_py.sim.load import Curve, Demand, Machine, from_everywhere, solve

CURVE = Curve(0.5, 1.0, 10.0)
IDLE_NS = np.array([[90.0, 140.0], [140.0, 90.0]])
TWO = Machine(IDLE_NS, np.full(2, 100.0), np.full((2, 2), 30.0), np.arange(2), curve=CURVE)
SWEEPS = [
    (each.gb_per_s, each.latency_ns)
    for path in sorted((Path(__file__).parents[3] / "sim" / "machines").glob("*.yaml"))
    for each in machines.read(path).loaded_latency
]


def asked(*gb_per_s, share=((1.0, 0.0), (0.0, 1.0)), **more):
    """Give a demand of one process on each node."""
    return Demand(np.diag(gb_per_s), from_everywhere(np.array(share)), **more)


@st.composite
def machines_and_demands(draw):
    """Draw a machine of up to six nodes in up to three packages, and what runs on it."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    nodes, packages, processes = random.integers(1, [7, 4, 20])
    idle_ns = random.uniform(60, 250, (nodes, nodes))
    curve = Curve(random.uniform(0, 1), random.uniform(0, 2), random.uniform(2, 60))
    machine = Machine(
        idle_ns,
        random.uniform(20, 200, nodes),
        random.uniform(5, 100, (nodes, nodes)),
        np.unique(random.integers(0, packages, nodes), return_inverse=True)[1],
        random.uniform(5, 100),
        curve,
    )
    gb_per_s = random.exponential(10 ** random.uniform(-2, 2.5), (processes, nodes))
    return machine, Demand(
        gb_per_s * (random.random((processes, nodes)) < 0.5),
        random.dirichlet(np.full(nodes, 0.3), (processes, nodes)),
        float(random.choice([0.1, 0.3, 1.0])),
        float(random.choice([0.0, 0.3])),
    )


@given(machines_and_demands())
def test_no_server_carries_more_than_its_limit(drawn):
    machine, demand = drawn

    carried = machine.carried(solve(machine, demand).gb_per_s, demand.write_share)

    assert (carried <= machine.limits * (1 + 1e-9)).all()


@given(machines_and_demands())
def test_the_loads_found_are_those_that_their_latencies_cause(drawn):
    machine, demand = drawn

    found = solve(machine, demand)

    stretch = 1 + demand.waiting_share * (
        np.einsum("pij,ij->pi", demand.reach, found.latency_ns / np.diag(machine.idle_ns)[:, None]) - 1
    )
    asked_gb_per_s = np.einsum("pi,pij->ij", demand.gb_per_s / stretch, demand.reach)
    assert found.rounds < load.MOST_ROUNDS
    assert found.gb_per_s == pytest.approx(asked_gb_per_s, rel=1e-3)
    usage = machine.carried(found.gb_per_s, demand.write_share) / machine.limits
    unloaded = machine.idle_ns * machine.curve.factor(machine.on_the_way(usage, demand.write_share))
    assert (found.latency_ns >= unloaded * (1 - 1e-3)).all()


@given(machines_and_demands())
def test_the_same_demand_gives_the_same_figures(drawn):
    machine, demand = drawn

    one, other = solve(machine, demand), solve(machine, demand)

    assert np.array_equal(one.latency_ns, other.latency_ns)
    assert np.array_equal(one.gb_per_s, other.gb_per_s)


@given(machines_and_demands(), st.floats(1.01, 10))
def test_memory_answers_no_sooner_when_everyone_asks_for_more(drawn, more):
    machine, demand = drawn
    machine = replace(
        machine, wire_gb_per_s=np.full_like(machine.wire_gb_per_s, np.inf), link_gb_per_s=np.inf
    )
    local = from_everywhere(np.eye(len(machine.idle_ns)))
    calm = Demand(np.diag(demand.gb_per_s.sum(axis=0)), local, demand.waiting_share)

    busy = replace(calm, gb_per_s=calm.gb_per_s * more)

    assert (solve(machine, busy).latency_ns >= solve(machine, calm).latency_ns * (1 - 1e-4)).all()


@given(st.floats(0, 0.98), st.floats(0.001, 0.02), st.floats(0.1, 500), st.sampled_from([0.1, 0.5, 1.0]))
def test_more_remote_memory_never_costs_less_at_equal_load(remote, more, gb_per_s, waiting):
    def slower(part):
        share = np.array([[1 - part, part], [part, 1 - part]])
        found = solve(TWO, asked(gb_per_s, gb_per_s, share=share, waiting_share=waiting))
        return float(share[0] @ found.latency_ns[0])

    assert slower(remote + more) >= slower(remote) * (1 - 1e-5)


def test_memory_that_nobody_uses_answers_as_at_rest():
    assert solve(TWO, asked(0.0, 0.0)).latency_ns == pytest.approx(IDLE_NS)


def test_who_holds_nothing_asks_for_nothing_even_where_all_its_time_would_wait():
    among = asked(50.0, 20.0, share=((1.0, 0.0), (0.0, 0.0)))

    found, alone = solve(TWO, among), solve(TWO, asked(50.0, 0.0))

    assert found.latency_ns == pytest.approx(alone.latency_ns)
    assert found.gb_per_s == pytest.approx(alone.gb_per_s)


def test_latency_follows_the_curve_where_traffic_does_not_wait():
    found = solve(TWO, asked(50.0, 0.0, waiting_share=0.0))

    assert found.latency_ns[0, 0] == pytest.approx(90 * (1 + 0.5 * 0.5 + 0.5**10))
    assert found.latency_ns[1, 1] == pytest.approx(90)


def test_past_the_limit_latency_is_what_is_outstanding_over_what_gets_through():
    outstanding = 500  # lines: 64 bytes each, in nanoseconds, make GB/s

    found = solve(TWO, asked(outstanding * 64 / 90, 0.0))

    assert found.gb_per_s[0, 0] == pytest.approx(100)
    assert found.latency_ns[0, 0] == pytest.approx(outstanding * 64 / 100)


def test_whoever_shares_a_wire_waits_for_it_and_others_do_not():
    found = solve(TWO, asked(1000.0, 20.0, share=((0.0, 1.0), (0.0, 1.0))))

    assert found.gb_per_s[0, 1] == pytest.approx(30)
    assert found.latency_ns[0, 1] > 4 * 140 > found.latency_ns[1, 1] * 4


@pytest.mark.parametrize(("gb_per_s", "spreading_helps"), [(5.0, False), (500.0, True)])
def test_spreading_helps_where_one_controller_is_full_and_not_where_it_is_idle(gb_per_s, spreading_helps):
    wide = replace(TWO, wire_gb_per_s=np.full((2, 2), 90.0))

    def slower(share):
        found = solve(wide, asked(gb_per_s, 0.0, share=(share, share)))
        return float(found.latency_ns[0] @ share)

    assert (slower((0.5, 0.5)) < slower((1.0, 0.0))) == spreading_helps


def test_nodes_of_a_package_share_its_link():
    idle_ns = np.where(np.eye(4), 90.0, 150.0)
    four = Machine(
        idle_ns,
        np.full(4, 60.0),
        np.full((4, 4), 50.0),
        np.array([0, 0, 1, 1]),
        link_gb_per_s=56.0,
        curve=CURVE,
    )
    crossing = np.eye(4)[[2, 3, 0, 1]]

    found = solve(four, Demand(np.diag([1000.0] * 4), from_everywhere(crossing)))

    assert found.gb_per_s.sum(axis=0) == pytest.approx([28.0] * 4)


def test_writes_flow_the_other_way():
    away = ((0.0, 1.0), (0.0, 1.0))

    reading = solve(TWO, asked(1000.0, 0.0, share=away))
    mixed = solve(TWO, asked(1000.0, 0.0, share=away, write_share=0.5))

    assert reading.gb_per_s[0, 1] == pytest.approx(30)
    assert mixed.gb_per_s[0, 1] == pytest.approx(60)


def test_a_controller_gives_less_the_more_is_written():
    mixed = replace(TWO, mix=((0.0, 1.0), (0.25, 0.9), (0.5, 0.8)))

    given = [
        solve(mixed, asked(1000.0, 0.0, write_share=share)).gb_per_s[0, 0]
        for share in (0.0, 0.25, 0.375, 0.5)
    ]

    assert given == pytest.approx([100, 90, 85, 80])


def test_a_curve_is_found_again_in_its_own_points():
    loads = np.linspace(0.001, 1, 30)

    found = load.fit([(loads * 80, 77 * CURVE.factor(loads))])

    assert found.factor(loads) == pytest.approx(CURVE.factor(loads), rel=0.01)


def test_the_pooled_curve_is_that_of_all_shipped_sweeps():
    found = load.fit(SWEEPS)

    assert len(SWEEPS) == 7
    assert (round(found.slope, 2), round(found.knee, 2), round(found.power)) == (
        load.POOLED.slope,
        load.POOLED.knee,
        load.POOLED.power,
    )
