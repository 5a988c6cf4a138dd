# SPDX-License-Identifier: Apache-2.0

"""Every parser is asked about every process of the machine that the tests run on."""

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from numad_py.kernel import cgroup, maps, node_sysfs, numa_maps, proc_stat, proc_status, vmstat

# A process of another user may not be asked, and any may be gone by now.
UNANSWERED = (FileNotFoundError, PermissionError, ProcessLookupError)


def placement(pid):
    placed = numa_maps.parse(numa_maps.read(pid), node_sysfs.read_topology().node_ids, node_sysfs.PAGE_BYTES)
    mapped = maps.parse(maps.read(pid))
    return numa_maps.regions(placed, mapped.start, mapped.end)


QUESTIONS = {
    "stat": proc_stat.read,
    "status": proc_status.read,
    "threads": lambda pid: proc_stat.cpu_times(proc_stat.read_threads(pid)),
    "placement": placement,
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_every_process_is_answered_for(question):
    answered = set()
    for pid in psutil.pids():
        with suppress(*UNANSWERED):
            question(pid)
            answered.add(pid)

    assert os.getpid() in answered


def test_our_own_stat_says_what_psutil_says():
    us = psutil.Process()

    stat = proc_stat.read(us.pid)

    assert stat.comm == us.name()[:15]
    assert stat.num_threads == us.num_threads()
    assert abs(stat.start_ticks / os.sysconf("SC_CLK_TCK") + psutil.boot_time() - us.create_time()) < 2


def test_our_own_regions_hold_our_anonymous_memory():
    regions = placement(os.getpid())

    anon_bytes = (regions.anon_pages * regions.page_bytes).sum()

    # Since Linux commit f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter") (in v6.2) RssAnon lags
    # behind by some pages on each CPU.
    assert anon_bytes == pytest.approx(proc_status.read(os.getpid()).rss_anon_bytes, rel=0.5)


def test_the_nodes_have_the_cpus_of_the_machine_and_room_above_their_watermarks():
    topology = node_sysfs.read_topology()
    memory = node_sysfs.read_memory(Path("/"), topology)

    assert sum(len(node.cpus) for node in topology.nodes) == psutil.cpu_count()
    assert (memory.high_watermark_bytes < memory.total_bytes)[memory.total_bytes > 0].all()


def test_counters_only_grow():
    before, after = vmstat.read(), vmstat.read()

    assert after["pgfault"] >= before["pgfault"]


@pytest.mark.skipif(cgroup.read_mount_point() is None, reason="no cgroup v2 is mounted here")
def test_the_whole_tree_is_walked_and_holds_us():
    mount = cgroup.read_mount_point()

    cgroup.labels(mount)

    assert any(os.getpid() in cgroup.procs(Path(directory)) for directory, _, _ in os.walk(mount))


@pytest.fixture
def labelled():
    """Give a labelled cgroup of this machine with one below it."""
    mount = cgroup.read_mount_point()
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("needs root and cgroup v2")
    top = mount / f"numad-py-test-{os.getpid()}"
    (top / "below").mkdir(parents=True)
    os.setxattr(top, cgroup.LABEL, b"default")
    yield top
    (top / "below").rmdir()
    top.rmdir()


def test_a_label_on_a_real_cgroup_is_found(labelled):
    (job,) = [job for job in cgroup.labels(cgroup.read_mount_point()).jobs if job.path == f"/{labelled.name}"]

    assert job.profile == "default"
    assert job.cgroup_id == cgroup.cgroup_id(labelled)
    assert job.directories == (labelled, labelled / "below")
    assert cgroup.procs(labelled) == ()
    assert cgroup.label_of(labelled / "below") is None


def test_a_threaded_cgroup_lists_no_processes(labelled):
    (labelled / "below/cgroup.type").write_text("threaded")

    assert cgroup.procs(labelled / "below") == ()
