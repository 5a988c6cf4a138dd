# SPDX-License-Identifier: Apache-2.0

"""What kind of memory a node has is told where the kernel and the GPU's driver tell it, and only there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import memory_sysfs

NODES = "sys/devices/system/node"
TIERS = "sys/devices/virtual/memory_tiering"
IOMEM = """\
00001000-0009ffff : System RAM
100000000-17fffffff : System RAM
  100000000-100ffffff : Kernel code
180000000-18fffffff : System RAM (kmem)
200000000-20fffffff : GPU
  200000000-20fffffff : System RAM (NVIDIA)
"""


@pytest.fixture
def write(tmp_path):
    """Write files of a machine; ``write.root`` is the machine."""

    def file(path, text=""):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    file.root = tmp_path
    return file


def hmat(write, access, latency, bandwidth):
    write(f"{NODES}/node2/{access}/initiators/read_latency", latency)
    write(f"{NODES}/node2/{access}/initiators/read_bandwidth", bandwidth)


def test_the_figures_of_the_nearest_cpus_are_told(write):
    hmat(write, "access0", "5\n", "900000\n")
    hmat(write, "access1", "120\n", "30720\n")

    assert memory_sysfs.read_speed(2, write.root) == (120, 30720)


def test_older_kernels_have_one_class_of_access(write):
    hmat(write, "access0", "120\n", "30720\n")

    assert memory_sysfs.read_speed(2, write.root) == (120, 30720)


def test_zero_and_no_file_are_no_figure(write):
    hmat(write, "access0", "0\n", "30720\n")

    assert memory_sysfs.read_speed(2, write.root) == (None, 30720)
    assert memory_sysfs.read_speed(3, write.root) == (None, None)


def test_a_figure_that_is_no_number_is_refused(write):
    hmat(write, "access0", "fast\n", "1\n")

    with pytest.raises(memory_sysfs.Malformed, match="read_latency"):
        memory_sysfs.read_speed(2, write.root)


def test_tiers_are_told_by_node(write):
    write(f"{TIERS}/memory_tier4/nodelist", "0-1\n")
    write(f"{TIERS}/memory_tier22/nodelist", "2\n")
    write(f"{TIERS}/uevent")
    (write.root / TIERS / "memory_tier30").mkdir()  # gone before it was read

    assert memory_sysfs.read_tiers(write.root) == {0: 4, 1: 4, 2: 22}


@pytest.mark.parametrize(("text", "is_so"), [("true\n", True), ("1\n", True), ("false\n", False)])
def test_the_kernel_tells_whether_it_demotes(write, text, is_so):
    write("sys/kernel/mm/numa/demotion_enabled", text)

    assert memory_sysfs.demotes(write.root) == is_so


def test_kernels_that_cannot_demote_do_not(tmp_path):
    assert not memory_sysfs.demotes(tmp_path)


def test_kernels_before_tiers_tell_none(tmp_path):
    assert memory_sysfs.read_tiers(tmp_path) == {}


def test_the_driver_names_the_nodes_of_its_gpus(write):
    write("proc/driver/nvidia/gpus/0009:01:00.0/numa_status", "Node:      1\nStatus:    online\n")
    write("proc/driver/nvidia/gpus/0019:01:00.0/numa_status", "Status:    disabled\n")

    assert memory_sysfs.read_gpu_nodes(write.root) == {1}


def test_memory_that_the_driver_added_makes_its_node_a_gpus(write):
    write("proc/iomem", IOMEM)
    write("sys/devices/system/memory/block_size_bytes", "8000000\n")
    for block in ("node0/memory32", "node1/memory48", "node2/memory64", "node2/memory_side_cache"):
        write(f"{NODES}/{block}")

    assert memory_sysfs.read_gpu_nodes(write.root) == {2}


def test_without_the_right_to_see_addresses_no_node_is_found_by_them(write):
    write("proc/iomem", "00000000-00000000 : System RAM (NVIDIA)\n")

    assert memory_sysfs.read_gpu_nodes(write.root) == set()


def test_a_block_size_that_is_none_is_refused(write):
    write("proc/iomem", IOMEM)
    write("sys/devices/system/memory/block_size_bytes", "0\n")

    with pytest.raises(memory_sysfs.Malformed, match="block_size_bytes"):
        memory_sysfs.read_gpu_nodes(write.root)


PIECES = [b"Node:", b" ", b"9" * 7, b"\n", b"200000000-20fffffff : ", b"System RAM (NVIDIA)", b"-"]


@given(text=st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_no_bytes_raise_anything(text):
    assert memory_sysfs.numa_status(text) is None or b"Node:" in text
    assert all(first >= 0 and last > 0 for first, last in memory_sysfs.gpu_ranges(text))
