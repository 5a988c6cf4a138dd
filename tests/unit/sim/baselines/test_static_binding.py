# SPDX-License-Identifier: Apache-2.0

"""The best static binding knows the whole trace, binds each process once, and never asks a node for more than it has."""

import numpy as np

from numad_py.sim.baselines import lives
from numad_py.sim.baselines.lives import Lives
from numad_py.sim.baselines.static_binding import BestStaticBinding
from tests.builders import topology
from tests.unit.sim.baselines.runs import ON, PRICES, live, looks, moved_mb, running


def lived(recorded):
    """Replay under the best binding for exactly that."""
    return live(recorded, BestStaticBinding(PRICES, recorded))


def bound(ticks):
    """Give which process was bound to which node, at which look."""
    return {
        wish.process.pid: (number, wish.nodes)
        for number, one in enumerate(ticks)
        for wish in one.plan.task_moves
    }


def test_a_job_that_wanders_is_held_where_its_memory_is():
    recorded = looks(lambda time_s: running({0: 400, 1: 100}, {int(time_s // 2) % 2: 0.5}), 40)

    ticks, score, hold = lived(recorded)

    assert bound(ticks) == {1000: (0, (0,))}
    assert moved_mb(ticks)[0] == sum(moved_mb(ticks)) == 100
    assert score.modelled_s < hold.modelled_s


def test_crossed_jobs_change_places():
    def at(_):
        return running({0: 4000}, {1: 8 * 0.5}, pid=1), running({1: 4000}, {0: 8 * 0.5}, pid=2)

    ticks, score, _ = lived(looks(at, 10))

    assert {pid: nodes for pid, (_, nodes) in bound(ticks).items()} == {1: (0,), 2: (1,)}
    assert score.moved_bytes == 0


def test_no_node_is_asked_for_more_cores_than_it_has():
    wide = looks(lambda _: running({0: 400}, {0: 3.0, 1: 3.0}), 10)

    ticks, score, hold = lived(wide)

    assert bound(ticks) == {}
    assert score.modelled_s == hold.modelled_s


def test_a_process_that_comes_later_is_bound_at_its_first_look():
    recorded = looks(lambda time_s: () if time_s < 5 else running({0: 400}, {1: 0.5}), 20)

    ticks, _, _ = lived(recorded)

    assert bound(ticks) == {1000: (10, (0,))}


def test_nothing_foreseen_binds_nobody():
    ticks, score, _ = live(looks(lambda _: running({0: 400}, {1: 0.5}), 5), BestStaticBinding(PRICES, ()))

    assert bound(ticks) == {}
    assert score.moved_bytes == 0


def test_a_longer_trace_takes_no_more_memory_and_loses_no_time():
    short, long = (
        Lives(looks(lambda _: running({0: 4}, {1: 0.25}), length_s), PRICES) for length_s in (5, 500)
    )

    (one,), (other,) = short.of.values(), long.of.values()
    assert one.cpu_s.shape == other.cpu_s.shape
    assert other.worked_s == 1000 * 0.25
    assert other.held.sum() == 500 * 4 * 2**20


def test_of_too_many_processes_the_busiest_are_remembered(monkeypatch):
    monkeypatch.setattr(lives, "MOST_PROCESSES", 2)
    many = tuple(running({0: 4}, {1: 0.25 * pid}, pid=pid) for pid in range(1, 6))

    found = Lives(looks(lambda _: many, 1, every_s=1), PRICES)

    assert {key.pid for key in found.of} == {4, 5}


def test_memory_of_a_node_without_cpus_is_left_for_one_that_has_them():
    on = topology(2, cpus=8, cpuless=(1,), node_bytes=ON.nodes[0].total_bytes)
    recorded = looks(lambda _: running({1: 400}, {0: 0.5}, on=on), 10, on=on)

    ticks, _, _ = lived(recorded)

    assert bound(ticks) == {1000: (0, (0,))}
    assert np.array(moved_mb(ticks)).sum() == 400
