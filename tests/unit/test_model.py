# SPDX-License-Identifier: Apache-2.0

"""Values answer what follows from them, in the order of the topology's nodes."""

import pytest

from numad_py.model import JobCounters, Mempolicy, RegionKind
from tests.builders import MIB, by_node, job, node_memory, process, regions, snapshot, threads, topology


def test_cpu_time_is_counted_by_process_and_the_node_of_each_threads_cpu():
    machine = topology(ids=(0, 8))
    busy, idle = process(1, cpu_s={0: 0.5, 8: 0.25}, on=machine), process(2, on=machine)

    seen = snapshot(jobs=[job(busy), job(idle), job(busy)], on=machine)

    assert seen.cpu_s.tolist() == [[0.5, 0.25], [0.0, 0.0], [0.5, 0.25]]


def test_cpu_time_on_a_cpu_that_no_node_has_is_left_out():
    ran = threads({0: 0.5, 1: 0.25})
    ran.cpu[:] = (99, 0)

    assert snapshot(processes=[process(threads=ran)]).cpu_s.tolist() == [[0.25, 0.0]]


def test_movable_memory_is_counted_by_process_and_node():
    bound = process(2, regions=regions({0: 256}, mempolicy=Mempolicy.BIND))

    seen = snapshot(processes=[process(1, pages={0: 256, 1: 512}), bound])

    assert seen.movable_bytes.tolist() == [[MIB, 2 * MIB], [0, 0]]


def test_a_look_without_processes_has_columns_without_rows():
    assert (snapshot().cpu_s.shape, snapshot().movable_bytes.shape) == ((0, 2), (0, 2))


def test_anonymous_memory_of_nobody_labelled_is_what_the_jobs_do_not_hold():
    held = process(regions=regions({0: 256, 1: 512}))
    files = process(2, regions=regions({0: 256}, kind=RegionKind.FILE))
    memory = node_memory(anon={0: 10 * MIB, 1: MIB})

    seen = snapshot(processes=[held, files], memory=memory)

    assert seen.unlabelled_anon_bytes.tolist() == by_node({0: 9 * MIB, 1: 0}).tolist()


@pytest.mark.parametrize(
    ("local", "remote", "share"),
    [(75.0, 25.0, 0.25), (0.0, 0.0, None), (None, 25.0, None), (75.0, None, None)],
)
def test_the_remote_access_share_is_of_all_accesses_that_were_told_apart(local, remote, share):
    counters = JobCounters(1.0, {}, local_accesses=local, remote_accesses=remote)

    assert counters.remote_access_share == share
