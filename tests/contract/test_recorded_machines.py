# SPDX-License-Identifier: Apache-2.0

"""What every recorded machine printed is read in full; a tree dropped into tests/recorded adds tests."""

from pathlib import Path

import pytest

from numad_py.kernel import cgroup, maps, node_sysfs, numa_maps, proc_stat, proc_status, vmstat
from numad_py.model import Mempolicy

RECORDED = Path(__file__).parents[1] / "recorded"
MACHINES = sorted(path.parents[1] for path in RECORDED.glob("*/proc/zoneinfo"))
PROCESSES = sorted(path.parent for path in RECORDED.glob("*/proc/[0-9]*/stat"))

machines = pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name)
processes = pytest.mark.parametrize(
    "process", PROCESSES, ids=lambda path: f"{path.parents[1].name}-{path.name}"
)


def machine_of(process):
    return process.parents[1]


def pid_of(process):
    return int(process.name)


def test_at_least_one_machine_is_recorded():
    assert MACHINES
    assert {machine_of(process) for process in PROCESSES} <= set(MACHINES)


@machines
def test_a_recorded_machine_says_where_it_comes_from(machine):
    assert "Kernel" in (machine / "NOTES.md").read_text()


@machines
def test_every_node_is_read(machine):
    topology = node_sysfs.read_topology(machine)
    memory = node_sysfs.read_memory(machine, topology)

    assert len(topology.nodes) == len(list((machine / "sys/devices/system/node").glob("node[0-9]*")))
    assert all(row[index] == 10 for index, row in enumerate(topology.distances))
    assert (memory.free_bytes <= memory.total_bytes).all()
    assert (memory.high_watermark_bytes < memory.total_bytes)[memory.total_bytes > 0].all()
    assert (memory.inactive_file_bytes <= memory.file_bytes).all()
    assert (memory.file_bytes + memory.anon_bytes <= memory.total_bytes).all()


@machines
def test_every_counter_is_read(machine):
    counters = vmstat.read(machine)

    assert len(counters) == len((machine / "proc/vmstat").read_text().splitlines())
    assert counters["pgfault"] > 0


@machines
def test_the_mount_of_cgroup_v2_is_found_where_there_is_one(machine):
    mounted = " - cgroup2 " in (machine / "proc/self/mountinfo").read_text()

    assert (cgroup.read_mount_point(machine) is not None) == mounted


@processes
def test_every_line_of_placement_is_a_row(process):
    node_ids = node_sysfs.read_topology(machine_of(process)).node_ids
    text = numa_maps.read(pid_of(process), machine_of(process))

    read = numa_maps.parse(text, node_ids, 4096)

    assert len(read.start) == text.count(b"\n")
    assert read.pages.sum() == sum(pages_of(line) for line in text.decode().splitlines())
    assert read.unknown_node_pages == 0
    assert Mempolicy.OTHER not in read.mempolicy


def pages_of(line):
    """Add up a line's N<node>=<pages>."""
    return sum(
        int(token.partition("=")[2]) for token in line.split() if token[0] == "N" and token[1].isdigit()
    )


@processes
def test_every_resident_page_is_in_a_region(process):
    node_ids = node_sysfs.read_topology(machine_of(process)).node_ids
    placed = numa_maps.parse(numa_maps.read(pid_of(process), machine_of(process)), node_ids, 4096)
    mapped = maps.parse(maps.read(pid_of(process), machine_of(process)))

    regions = numa_maps.regions(placed, mapped.start, mapped.end)

    assert regions.pages.sum() == placed.pages.sum()
    assert (regions.resident_bytes.sum(axis=1) <= (regions.end - regions.start)).all()


@processes
def test_the_anonymous_pages_of_both_files_agree(process):
    node_ids = node_sysfs.read_topology(machine_of(process)).node_ids
    placed = numa_maps.parse(numa_maps.read(pid_of(process), machine_of(process)), node_ids, 4096)

    status = proc_status.read(pid_of(process), machine_of(process))

    # Since Linux commit f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter") (in v6.2) RssAnon lags
    # behind, by at most this many pages on each CPU.
    cpus = len(node_sysfs.read_topology(machine_of(process)).index_of_cpu)
    lag_bytes = cpus * max(32, 2 * cpus) * node_sysfs.PAGE_BYTES
    assert abs((placed.anon_pages * placed.page_bytes).sum() - status.rss_anon_bytes) <= lag_bytes


@processes
def test_the_threads_add_up_to_the_process(process):
    stat = proc_stat.read(pid_of(process), machine_of(process))
    tid, cpu, _ = proc_stat.cpu_times(proc_stat.read_threads(pid_of(process), machine_of(process)))

    assert pid_of(process) in tid
    assert len(tid) == stat.num_threads
    assert set(cpu.tolist()) <= {
        cpu for node in node_sysfs.read_topology(machine_of(process)).nodes for cpu in node.cpus
    }
    assert set(node_sysfs.read_topology(machine_of(process)).node_ids) >= set(
        proc_status.read(pid_of(process), machine_of(process)).nodes_allowed
    )
