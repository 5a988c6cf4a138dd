# SPDX-License-Identifier: Apache-2.0

"""Memory of ours is bound to a node before it is touched, or stays where it is; a node that there is not is refused."""

import mmap
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import mempolicy, node_sysfs, placement


def untouched(pages):
    """Give memory that no page backs yet, and the address of each page."""
    memory = np.frombuffer(mmap.mmap(-1, pages * mmap.PAGESIZE), np.uint8)
    return memory, memory.ctypes.data + np.arange(0, memory.size, mmap.PAGESIZE, dtype=np.uint64)


@pytest.fixture(autouse=True)
def _numa():
    try:
        placement.nodes_of(os.getpid(), np.zeros(1, np.uint64))
    except OSError:
        pytest.skip("a kernel without NUMA")


def test_bound_memory_comes_from_its_node():
    memory, addresses = untouched(8)
    node = node_sysfs.read_topology().node_ids[-1]

    mempolicy.bind(memory.ctypes.data, memory.nbytes, node)
    memory.fill(1)

    assert set(placement.nodes_of(os.getpid(), addresses).tolist()) == {node}


def test_memory_allocated_locally_is_told_by_the_kernel_to_be_so():
    def told():  # a process, since the kernel tells the leading thread's
        mempolicy.allocate_locally()
        policies = {line.split()[1] for line in Path("/proc/self/numa_maps").read_text().splitlines()}
        os._exit(policies != {"local"})

    child = multiprocessing.get_context("fork").Process(target=told)
    child.start()
    child.join()
    assert child.exitcode == 0


def test_a_node_that_is_not_there_is_refused():
    memory, _ = untouched(1)

    with pytest.raises(OSError, match="Invalid argument"):
        mempolicy.bind(memory.ctypes.data, memory.nbytes, 1023)


@pytest.mark.parametrize(
    ("nodes", "words", "bits"),
    [((0,), 0, [1]), ((1, 65), 0, [2, 2]), ((3,), 2, [8, 0]), ((63,), 0, [1 << 63])],
)
def test_a_mask_has_a_bit_for_each_node(nodes, words, bits):
    assert mempolicy.nodemask(nodes, words).tolist() == bits
