# SPDX-License-Identifier: Apache-2.0

"""Values answer what follows from them, in the order of the topology's nodes."""

from numad_py.model import RegionKind
from tests.builders import MIB, by_node, node_memory, process, regions, snapshot, threads, topology


def test_cpu_time_is_counted_by_the_node_of_each_threads_cpu():
    machine = topology(ids=(0, 8))
    ran = threads({0: 0.5, 8: 0.25}, on=machine)

    assert ran.cpu_s_by_node(machine).tolist() == [0.5, 0.25]


def test_cpu_time_on_a_cpu_that_no_node_has_is_left_out():
    machine = topology()
    ran = threads({0: 0.5, 1: 0.25})
    ran.cpu[:] = (99, 0)

    assert ran.cpu_s_by_node(machine).tolist() == [0.25, 0.0]


def test_anonymous_memory_of_nobody_labelled_is_what_the_jobs_do_not_hold():
    held = process(regions=regions({0: 256, 1: 512}))
    files = process(2, regions=regions({0: 256}, kind=RegionKind.FILE))
    memory = node_memory(anon={0: 10 * MIB, 1: MIB})

    seen = snapshot(processes=[held, files], memory=memory)

    assert seen.unlabelled_anon_bytes.tolist() == by_node({0: 9 * MIB, 1: 0}).tolist()
