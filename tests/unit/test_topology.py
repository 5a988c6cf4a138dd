# SPDX-License-Identifier: Apache-2.0

"""The machine answers what follows from its nodes, in their order."""

from numad_py.topology import Node, Topology


def test_the_nearest_memory_is_never_that_of_a_gpu():
    cpus_only, gpu, ram = Node(0, (0,), 0), Node(1, (), 1 << 30, gpu=True), Node(2, (1,), 1 << 30)
    on = Topology((cpus_only, gpu, ram), ((10, 11, 40), (11, 10, 40), (40, 40, 10)), 4096)

    assert on.memory_of.tolist() == [2, 2, 2]
    assert on.gpu_ids == {1}
