# SPDX-License-Identifier: Apache-2.0

"""What was recorded is work: it takes as long as cores, memory and the slowest rank make it take."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import MoveTasks, Plan, Reason
from numad_py.policies.hold import Hold
from numad_py.roles import Policy
from numad_py.sim.cost import Prices
from numad_py.sim.replay import replay, scores
from numad_py.sim.work import SIBLING_SHARE, sharing
from tests.builders import job, process, snapshot, tick, topology

CORES = 4
SMT = replace(topology(cpus=2 * CORES), cores=tuple((cpu, cpu + CORES) for cpu in (0, 1, 2, 3, 8, 9, 10, 11)))
FLAT = Prices(np.array([[100.0, 100.0], [100.0, 100.0]]))
FAR = Prices(np.array([[100.0, 200.0], [200.0, 100.0]]), memory_share=0.5)


class Binds(Policy):
    """Lets every process run on these nodes alone."""

    def __init__(self, *nodes):
        self.nodes = nodes

    def decide(self, snapshot):
        wish = (MoveTasks(each.key, self.nodes, Reason.TASKS_FOLLOW_MEMORY) for each in snapshot.processes)
        return Plan(task_moves=tuple(wish))


def compute(threads, *, nodes=(0, 1), on=SMT, **more):
    """Give a process of threads that are never idle, in turn on the CPUs of these nodes."""
    cpus = [cpu for pair in zip(*(on.nodes[node].cpus for node in nodes), strict=True) for cpu in pair]
    one = process(pages={nodes[0]: 10}, on=on, **more)
    columns = replace(
        one.threads,
        tid=np.arange(threads),
        cpu=np.array([cpus[at % len(cpus)] for at in range(threads)]),
        cpu_s=np.ones(threads),
    )
    return replace(one, threads=columns)


def run(*processes, looks=4, on=SMT, barrier=False):
    """Give a run of one job of these processes, one look a second."""
    one = replace(job(*processes), barrier=barrier)
    return [tick(snapshot(float(at), jobs=[one], on=on)) for at in range(looks)]


def job_s(ticks, policy, prices=FLAT):
    found = scores(ticks, {"hold": Hold(), "it": policy}, prices)
    return found["hold"].job_s["/train.slice/job"], found["it"].job_s["/train.slice/job"]


def test_a_thread_with_a_core_of_its_own_takes_as_long_as_it_was_busy():
    assert job_s(run(compute(CORES)), Hold()) == (3, 3)


@given(st.integers(1, 4 * CORES))
def test_packing_a_compute_bound_job_onto_fewer_cores_never_shortens_it(threads):
    spread_s, packed_s = job_s(run(compute(threads)), Binds(0))

    assert packed_s >= spread_s
    assert (packed_s > spread_s) == (threads > CORES)


@given(st.lists(st.floats(0, 40), min_size=2, max_size=2), st.floats(0, 10))
def test_the_more_runs_on_a_node_the_longer_work_takes_there(cpu_s, more_s):
    fewer, more = (sharing(np.array([cpu_s]) + extra, 1.0, SMT) for extra in (0, more_s))

    assert (more >= fewer).all()


def test_siblings_add_their_share_and_beyond_them_time_is_shared():
    full = CORES * (1 + SIBLING_SHARE)

    assert sharing(np.array([[8.0, 4.0]]), 1.0, SMT).tolist() == pytest.approx([8 / full, 1])
    assert sharing(np.array([[16.0, 0.0]]), 1.0, SMT).tolist() == pytest.approx([16 / full, 1])
    assert sharing(np.array([[16.0, 0.0]]), 0.0, SMT).tolist() == [1, 1]


def test_where_nothing_is_told_of_cores_every_cpu_is_one():
    assert sharing(np.array([[8.0, 0.0]]), 1.0, replace(SMT, cores=())).tolist() == [1, 1]


def test_a_job_whose_memory_is_near_ends_sooner_and_sleep_takes_as_long_as_ever():
    half_asleep = process(pages={1: 10}, cpu_s={0: 0.5}, on=SMT)

    far_s, near_s = job_s(run(half_asleep), Binds(1), FAR)

    assert far_s == pytest.approx(3 * (0.5 + 0.5 * 1.5))
    assert near_s == 3


def test_ranks_that_wait_for_each_other_take_as_long_as_the_slowest():
    near, far = process(1, pages={0: 10}, cpu_s={0: 1.0}), process(2, pages={1: 10}, cpu_s={0: 1.0})

    alone_s, _ = job_s(run(near, far), Hold(), FAR)
    together_s, _ = job_s(run(near, far, barrier=True), Hold(), FAR)

    assert alone_s == pytest.approx(3 * (1 + 1.5) / 2)
    assert together_s == pytest.approx(3 * 1.5)


def test_a_job_that_sleeps_takes_its_time():
    assert job_s(run(process(pages={1: 10}, on=SMT)), Hold(), FAR) == (3, 3)


def test_threads_that_are_bound_run_there_and_touch_memory_there():
    ticks = [
        tick(snapshot(float(at), jobs=[job(process(pages={0: 10 + at}, cpu_s={0: 1.0}, on=SMT))], on=SMT))
        for at in range(3)
    ]

    *_, last = replay(ticks, {"binds": Binds(1)}, FLAT)

    assert last["binds"].snapshot.cpu_s.tolist() == [[0, 1]]
    assert last["binds"].snapshot.processes[0].regions.pages.sum(axis=0).tolist() == [10, 2]


@pytest.mark.parametrize("nodes", [(1,), (0, 7)])
def test_threads_stay_where_they_are_if_they_may_not_run_on_all_of_the_nodes(nodes):
    only_here = process(pages={0: 10}, cpu_s={0: 1.0}, nodes_allowed=(0,), on=SMT)

    *_, last = replay(run(only_here), {"binds": Binds(*nodes)}, FLAT)

    assert last["binds"].snapshot.cpu_s.tolist() == [[1, 0]]


def test_a_process_that_was_not_seen_for_a_look_is_still_bound():
    one = process(pages={0: 10}, cpu_s={0: 1.0}, on=SMT)
    looks = [[one], [], [one]]

    class Once(Binds):
        def decide(self, snapshot):
            return super().decide(snapshot) if snapshot.time_s == 0 else Plan()

    ticks = [tick(snapshot(float(at), jobs=[job(*each)], on=SMT)) for at, each in enumerate(looks)]
    *_, last = replay(ticks, {"binds": Once(1)}, FLAT)

    assert last["binds"].snapshot.cpu_s.tolist() == [[0, 1]]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([(0,), (1,), (0, 1)])), min_size=1, max_size=3),
    st.sampled_from([(0,), (1,), (0, 1)]),
)
def test_no_policy_that_moves_threads_beats_the_oracle(jobs, nodes):
    processes = [compute(threads, nodes=ran, pid=pid) for pid, (threads, ran) in enumerate(jobs, 1)]

    found = scores(run(*processes), {"hold": Hold(), "it": Binds(*nodes)}, FAR)["it"]

    assert found.task_moves > 0
    assert found.least_s <= found.modelled_s * (1 + 1e-9)
