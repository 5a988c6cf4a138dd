# SPDX-License-Identifier: Apache-2.0

"""Any machine's nodes are read: sparse, without CPUs, without memory, a thousand, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import node_sysfs

MEMINFO = """\
Node {id} MemTotal:       {total} kB
Node {id} MemFree:        5401148 kB
Node {id} MemUsed:         589464 kB
Node {id} Active:          107468 kB
Node {id} Inactive:        172692 kB
Node {id} Active(anon):      1544 kB
Node {id} Inactive(anon):    7308 kB
Node {id} Active(file):    105924 kB
Node {id} Inactive(file):  165384 kB
Node {id} Dirty:              800 kB
Node {id} Writeback:           16 kB
Node {id} Mapped:           40960 kB
Node {id} AnonPages:        16488 kB
Node {id} WritebackTmp:         3 kB
Node {id} HugePages_Total:     0
"""
ZONES = """\
Node {id}, zone    DMA32
  per-node stats
      nr_inactive_anon 1827
  pages free     3840
        boost    0
        min      43
        low      53
        high     63
        promo    73
        protection: (0, 3019, 5835, 5835, 5835)
  pagesets
    cpu: 0
              count:    0
              high:     5449
              high_min: 5449
Node {id}, zone   Normal
  pages free     9
        high     {high}
Node {id}, zone  Movable
  pages free     0
        high     0
"""


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def machine(root, *, online, cpulists, totals):
    """Write the files of a machine whose nodes are ``cpulists``'s keys; a node's high watermark is its id."""
    write(root, "sys/devices/system/node/online", online + "\n")
    for id_, cpus in cpulists.items():
        node = f"sys/devices/system/node/node{id_}"
        write(root, f"{node}/cpulist", cpus + "\n")
        write(root, f"{node}/meminfo", MEMINFO.format(id=id_, total=totals.get(id_, 4096)))
        write(root, f"{node}/distance", " ".join("10" if id_ == other else "21" for other in cpulists) + "\n")
    write(root, "proc/zoneinfo", "".join(ZONES.format(id=id_, high=id_) for id_ in cpulists))
    return root


def test_sparse_nodes_without_cpus_or_memory_are_nodes(tmp_path):
    root = machine(
        tmp_path, online="0,3,8-9", cpulists={0: "0-1,4", 3: "", 8: "2-3", 9: ""}, totals={8: 0, 9: 1 << 20}
    )

    topology = node_sysfs.read_topology(root, page_bytes=65536)

    assert topology.node_ids == (0, 3, 8, 9)
    assert [node.cpus for node in topology.nodes] == [(0, 1, 4), (), (2, 3), ()]
    assert [node.total_bytes for node in topology.nodes] == [4 << 20, 4 << 20, 0, 1 << 30]
    assert topology.distances[1] == (21, 10, 21, 21)
    assert topology.page_bytes == 65536


def test_memory_is_read_by_node(tmp_path):
    root = machine(tmp_path, online="0,3", cpulists={0: "0", 3: ""}, totals={3: 8192})
    topology = node_sysfs.read_topology(root, page_bytes=65536)

    memory = node_sysfs.read_memory(root, topology)

    assert memory.total_bytes.tolist() == [4 << 20, 8 << 20]
    assert memory.free_bytes.tolist() == [5401148 << 10] * 2
    assert memory.high_watermark_bytes.tolist() == [63 * 65536, 66 * 65536]
    assert memory.file_bytes.tolist() == [(105924 + 165384) << 10] * 2
    assert memory.inactive_file_bytes.tolist() == [165384 << 10] * 2
    assert memory.dirty_bytes.tolist() == [816 << 10] * 2
    assert memory.anon_bytes.tolist() == [16488 << 10] * 2


def test_a_thousand_nodes_are_read(tmp_path):
    root = machine(tmp_path, online="0-1023", cpulists={id_: f"{id_}" for id_ in range(1024)}, totals={})

    topology = node_sysfs.read_topology(root)
    memory = node_sysfs.read_memory(root, topology)

    assert topology.node_ids == tuple(range(1024))
    assert topology.distances[1023][1022:] == (21, 10)
    assert memory.high_watermark_bytes.tolist() == [(63 + id_) * topology.page_bytes for id_ in range(1024)]


def test_a_kernel_without_numa_is_one_node(tmp_path):
    write(tmp_path, "sys/devices/system/cpu/online", "0-3\n")
    write(tmp_path, "proc/meminfo", MEMINFO.replace("Node {id} ", "").format(total=2048))
    write(tmp_path, "proc/zoneinfo", ZONES.format(id=0, high=7))

    topology = node_sysfs.read_topology(tmp_path, page_bytes=4096)
    memory = node_sysfs.read_memory(tmp_path, topology)

    assert topology.node_ids == (0,)
    assert topology.nodes[0].cpus == (0, 1, 2, 3)
    assert topology.distances == ((10,),)
    assert memory.total_bytes.tolist() == [2 << 20]
    assert memory.high_watermark_bytes.tolist() == [70 * 4096]


def test_a_node_that_went_off_line_is_told_by_the_system(tmp_path):
    root = machine(tmp_path, online="0-1", cpulists={0: "0", 1: "1"}, totals={})
    topology = node_sysfs.read_topology(root)
    (root / "sys/devices/system/node/node1/meminfo").unlink()

    with pytest.raises(FileNotFoundError):
        node_sysfs.read_memory(root, topology)


def test_a_node_that_does_not_say_how_much_memory_it_has_is_refused(tmp_path):
    root = machine(tmp_path, online="0", cpulists={0: "0"}, totals={})
    write(root, "sys/devices/system/node/node0/meminfo", "Node 0 MemFree: 1 kB\n")

    with pytest.raises(node_sysfs.Malformed, match="MemTotal"):
        node_sysfs.read_topology(root)


@pytest.mark.parametrize("text", [b"", b"10", b"10 20 30", b"10 x", b"10 -1", b"10 1000"])
def test_distances_that_do_not_fit_the_nodes_are_refused(text):
    with pytest.raises(node_sysfs.Malformed):
        node_sysfs.distances(text, 2)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        MEMINFO.format(id=0, total=1).replace("AnonPages", "Anon").encode(),
        MEMINFO.format(id=0, total="9" * 19).encode(),
    ],
)
def test_memory_with_a_counter_missing_is_refused(text):
    with pytest.raises(node_sysfs.Malformed):
        node_sysfs.meminfo(text)


@pytest.mark.parametrize(
    "text",
    [
        b"        high     63\n",
        b"Node 0, zone Normal\n        high 999999999999\n        high 999999999999\n",
    ],
)
def test_watermarks_of_no_zone_or_no_machine_are_refused(text):
    with pytest.raises(node_sysfs.Malformed):
        node_sysfs.watermarks(text)


PARTS = [
    b"Node 0, zone Normal\n",
    b"  high ",
    b"999999999999",
    b"\n",
    b" ",
    b"10",
    b"Node 0 MemTotal: ",
    b" kB\n",
]


@pytest.mark.parametrize(
    "parse", [node_sysfs.meminfo, node_sysfs.watermarks, lambda text: node_sysfs.distances(text, 2)]
)
@given(text=st.binary(max_size=100) | st.lists(st.sampled_from(PARTS), max_size=20).map(b"".join))
def test_no_bytes_raise_anything_but_malformed(parse, text):
    try:
        parse(text)
    except node_sysfs.Malformed:
        return
