# SPDX-License-Identifier: Apache-2.0

"""A machine is printed in numactl's words, and drawn with each part within what holds it."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py.cli import hardware
from numad_py.kernel import node_sysfs
from numad_py.topology import Device, DeviceKind, Node, Topology
from tests.builders import GIB, topology


def drawn(on):
    return list(hardware.picture(on))


def test_numactls_words_and_layout():
    on = Topology(
        (Node(0, (0, 2), 2 * GIB), Node(8, (), 188416 << 20)), ((10, 120), (80, 10)), page_bytes=4096
    )

    lines = list(hardware.as_numactl(on, np.array([GIB, 0])))

    assert lines == [
        "available: 2 nodes (0,8)",
        "node 0 cpus: 0 2",
        "node 0 size: 2048 MB",
        "node 0 free: 1024 MB",
        "node 8 cpus:",
        "node 8 size: 188416 MB",
        "node 8 free: 0 MB",
        "node distances:",
        "node   0   8 ",
        "  0:  10  120 ",
        "  8:  80  10 ",
    ]


@pytest.mark.skipif(not shutil.which("numactl"), reason="needs numactl")
def test_this_machine_is_printed_as_numactl_prints_it():
    on = node_sysfs.read_topology()
    free_bytes = node_sysfs.read_memory(Path("/"), on).free_bytes

    theirs = subprocess.run(["numactl", "-H"], capture_output=True, check=True, text=True).stdout.splitlines()

    assert without_free(hardware.as_numactl(on, free_bytes)) == without_free(theirs)


def without_free(lines):
    return [line for line in lines if " free: " not in line]


def test_caches_lie_within_nodes_or_nodes_within_caches():
    two = topology(2, cpus=4)
    cpus = tuple(range(8))

    ccx = replace(two, sockets=(cpus,), llcs=((0, 1), (2, 3), (4, 5), (6, 7)))
    snc = replace(two, sockets=(cpus,), llcs=(cpus,))

    assert [line.partition(":")[0] for line in drawn(ccx)[1:]] == [
        "  socket 0",
        "    node 0",
        "      last-level cache 0",
        "      last-level cache 1",
        "    node 1",
        "      last-level cache 2",
        "      last-level cache 3",
    ]
    assert [line.partition(":")[0] for line in drawn(snc)[1:]] == [
        "  socket 0",
        "    last-level cache 0",
        "      node 0",
        "      node 1",
    ]


def test_cores_are_counted_with_their_threads():
    on = replace(topology(1, cpus=5), cores=((0, 1), (2, 3), (4,)))

    assert drawn(on) == [
        "machine: 1 node, 3 cores, 5 CPUs",
        "  node 0: 1024 MB, 2 cores of 2 threads and 1 core, CPUs 0-4",
    ]


def test_what_is_known_of_a_nodes_memory_is_told():
    ram = Node(0, (0,), GIB, tier=4, read_latency_ns=100, read_mb_per_s=204800)
    gpu = Node(1, (), GIB, gpu=True)
    on = Topology((ram, gpu), ((10, 80), (80, 10)), 4096)

    assert drawn(on)[1:] == [
        "  node 0: 1024 MB, tier 4, reads in 100 ns, reads at 204800 MB/s, CPUs 0",
        "  node 1: 1024 MB, a GPU's memory: never a target, no CPUs, nearest to node 0",
    ]


def test_nodes_without_cpus_name_those_that_are_nearest():
    on = topology(3, cpuless=(2,))
    alone = Topology((Node(0, (), GIB),), ((10,),), 4096)

    assert drawn(on)[-1] == "  node 2: 1024 MB, no CPUs, nearest to nodes 0-1"
    assert drawn(alone)[-1] == "  node 0: 1024 MB, no CPUs, near to none with CPUs"


def test_devices_hang_on_their_nodes_and_cpus_set_apart_are_named():
    on = replace(
        topology(2, cpuless=(1,)),
        devices=(
            Device("0000:01:00.0", DeviceKind.GPU, 0),
            Device("0000:02:00.0", DeviceKind.NIC, 1),
            Device("0000:03:00.0", DeviceKind.NIC, None),
        ),
        isolated_cpus=(1,),
        nohz_full_cpus=(0, 1),
    )

    assert drawn(on)[1:] == [
        "  node 0: 1024 MB, CPUs 0-1",
        "    GPU 0000:01:00.0",
        "  node 1: 1024 MB, no CPUs, nearest to node 0",
        "    NIC 0000:02:00.0",
        "  on no node that is told",
        "    NIC 0000:03:00.0",
        "  isolated CPUs: 1",
        "  nohz_full CPUs: 0-1",
    ]
