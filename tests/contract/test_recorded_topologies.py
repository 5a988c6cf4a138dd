# SPDX-License-Identifier: Apache-2.0

"""Topologies of machines that few people have are read in full; tests/recorded/topologies/SOURCES.md says whose they are."""

import re
import tarfile
from pathlib import Path

import pytest

from numad_py.kernel import node_sysfs

ARCHIVES = Path(__file__).parents[1] / "recorded/topologies"
PAGE = 4096

# Nodes, nodes with CPUs, sockets, last-level caches, cores, CPUs.
COUNTS = {
    "dgx-spark": (1, 1, 1, 2, 20, 20),
    "epyc-four-nodes-a-socket": (8, 8, 2, 16, 64, 128),
    "epyc-nps1": (2, 2, 2, 16, 64, 64),
    "four-socket-xeon": (4, 4, 4, 4, 72, 144),
    "grace-blackwell": (34, 2, 2, 2, 144, 144),
    "grace-hopper": (9, 1, 1, 1, 72, 72),
    "kunpeng-920": (4, 4, 2, 4, 128, 128),
    "opteron-sparse": (8, 8, 4, 8, 48, 48),
    "power9-gpu": (8, 2, 2, 0, 8, 32),
    "qemu-hmat": (8, 4, 4, 4, 4, 8),
    "two-socket-xeon": (2, 2, 2, 2, 16, 32),
    "xeon-cxl": (4, 2, 2, 2, 104, 208),
    "xeon-snc2": (4, 4, 2, 2, 40, 80),
    "xeon-snc2-pmem": (8, 4, 2, 2, 56, 112),
    "xeon-snc4": (8, 8, 2, 2, 112, 224),
}
GPU_NODES = {"grace-blackwell": {2, 10, 18, 26}, "grace-hopper": {1}, "power9-gpu": set(range(250, 256))}


def unpack(archive, root):
    """Write the files; tarfile's own filters came with Python 3.11.4, and Debian's is 3.11.2."""
    for member in archive:
        path = root / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.extractfile(member).read())


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Unpack a machine by its name, and read its topology, once."""
    known = {}

    def topology(name):
        if name not in known:
            root = tmp_path_factory.mktemp(name)
            with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
                unpack(archive, root)
            known[name] = node_sysfs.read_topology(root, PAGE)
        return known[name]

    return topology


machines = pytest.mark.parametrize(
    "name", sorted(path.name.removesuffix(".tar.xz") for path in ARCHIVES.glob("*.xz"))
)


@machines
def test_every_archive_says_where_it_comes_from(name):
    assert re.search(rf"^\| `{name}` \|", (ARCHIVES / "SOURCES.md").read_text(), re.MULTILINE)


@machines
def test_nodes_sockets_caches_and_cores_are_counted(name, read):
    on = read(name)

    counted = (
        len(on.nodes),
        int(on.has_cpus.sum()),
        len(on.sockets),
        len(on.llcs),
        len(on.cores),
        sum(map(len, on.cores)),
    )

    assert counted == COUNTS[name]


@machines
def test_groups_of_cpus_neither_overlap_nor_leave_a_machine(name, read):
    on = read(name)
    cpus = {cpu for node in on.nodes for cpu in node.cpus}

    for groups in (on.sockets, on.llcs, on.cores):
        members = [cpu for group in groups for cpu in group]
        assert len(members) == len(set(members))
        assert set(members) <= cpus
        assert list(groups) == sorted(groups)


@machines
def test_every_core_is_in_one_cache_domain_one_node_and_one_socket(name, read):
    on = read(name)

    for groups in (on.llcs, tuple(node.cpus for node in on.nodes), on.sockets):
        whole = [set(group) for group in groups if group]
        for core in on.cores:
            assert sum(set(core) <= group for group in whole) == bool(groups)


@machines
def test_the_memory_of_gpus_is_told_from_other_nodes_without_cpus(name, read):
    on = read(name)

    assert on.gpu_ids == GPU_NODES.get(name, set())
    assert not any(on.nodes[index].gpu for index in on.memory_of)


@machines
def test_distances_are_least_on_the_diagonal(name, read):
    on = read(name)

    assert all(min(row) == row[index] == 10 for index, row in enumerate(on.distances))


def test_ids_may_be_sparse(read):
    assert read("opteron-sparse").node_ids == (0, 1, 2, 33, 34, 45, 72, 73)
    assert read("power9-gpu").node_ids == (0, 8, *range(250, 256))


def test_a_last_level_cache_may_span_nodes_and_a_node_may_hold_several(read):
    snc, epyc = read("xeon-snc4"), read("epyc-four-nodes-a-socket")

    assert set(snc.llcs[0]) == {cpu for node in snc.nodes[:4] for cpu in node.cpus}
    assert [cpu for llc in epyc.llcs[:2] for cpu in llc[:4]] == list(epyc.nodes[0].cpus[:8])


def test_adapters_hang_on_their_nodes(read):
    on = read("two-socket-xeon")

    assert {(device.kind, device.node) for device in on.devices} == {("nic", 0)}


def test_latency_bandwidth_and_tiers_are_told_where_the_firmware_tells_them(read):
    nodes = read("qemu-hmat").nodes

    assert [node.read_latency_ns for node in nodes] == [100] * 4 + [140] * 4
    assert [node.read_mb_per_s for node in nodes] == [100_000] * 4 + [71_420] * 4
    assert all(node.tier is not None for node in nodes)


def test_isolated_cpus_are_told(read):
    assert read("xeon-snc2-pmem").isolated_cpus == (4, 5, 6, 7, 60, 61, 62, 63)
    assert read("dgx-spark").nohz_full_cpus == ()
