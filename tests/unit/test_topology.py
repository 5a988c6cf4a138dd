# SPDX-License-Identifier: Apache-2.0

"""The machine answers what follows from its nodes, in their order."""

from numad_py.topology import Node, Topology


def test_the_nearest_memory_is_never_that_of_a_gpu():
    cpus_only, gpu, ram = Node(0, (0,), 0), Node(1, (), 1 << 30, gpu=True), Node(2, (1,), 1 << 30)
    on = Topology((cpus_only, gpu, ram), ((10, 11, 40), (11, 10, 40), (40, 40, 10)), 4096)

    assert on.memory_of.tolist() == [2, 2, 2]
    assert on.gpu_ids == {1}


def test_threads_run_on_allowed_nodes_with_cpus_and_memory_of_their_own():
    cpus_only, gpu, ram, other = (
        Node(0, (0,), 0),
        Node(1, (9,), 1, gpu=True),
        Node(2, (1,), 1),
        Node(3, (2,), 1),
    )
    on = Topology((cpus_only, gpu, ram, other, Node(4, (), 1)), ((10,) * 5,) * 5, 4096)

    assert on.running_on(range(5)) == (2, 3)
    assert on.running_on((0, 2)) == (2,)
