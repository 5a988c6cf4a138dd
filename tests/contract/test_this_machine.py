# SPDX-License-Identifier: Apache-2.0

"""Every parser is asked about every process of the machine that the tests run on."""

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from numad_py.kernel import cgroup, maps, node_sysfs, numa_maps, proc_stat, proc_status, vmstat
from numad_py.kernel.cgroup_tree import Tree
from numad_py.sense import opt_in
from numad_py.sense.opt_in import Rules

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

    walked = [mount / directory.path[1:] for directory in cgroup.walk(mount)]

    assert any(os.getpid() in cgroup.procs(directory) for directory in walked)


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
    mount = cgroup.read_mount_point()

    found = opt_in.assign(cgroup.walk(mount), mount, Rules())

    (job,) = [job for job in found.jobs if job.path == f"/{labelled.name}"]

    assert job.profile == "default"
    assert job.cgroup_id == cgroup.cgroup_id(labelled)
    assert job.directories == (labelled, labelled / "below")
    assert cgroup.procs(labelled) == ()
    assert cgroup.label_of(labelled / "below") is None


def test_a_threaded_cgroup_lists_no_processes(labelled):
    (labelled / "below/cgroup.type").write_text("threaded")

    assert cgroup.procs(labelled / "below") == ()


def test_the_owner_of_a_cgroup_may_label_it_and_nobody_else_but_root(labelled):
    os.chown(labelled / "below", 1000, 1000)
    os.seteuid(1000)  # which takes root's capabilities away until it is taken back
    try:
        cgroup.set_label(labelled / "below", "default")
        with pytest.raises(PermissionError):
            cgroup.set_label(labelled, "off")
    finally:
        os.seteuid(0)

    found = opt_in.assign(cgroup.walk(labelled), labelled, Rules(user_profiles=frozenset({"default"})))
    assert [(job.path, job.uid) for job in found.jobs] == [("/below", 1000)]


@pytest.fixture
def tree(labelled):
    tree = Tree(labelled)
    yield tree
    tree.close()


def test_the_kernel_tells_of_cgroups_that_come_and_go_and_of_their_labels(labelled, tree):
    assert (tree.problem, tree.refresh()) == ("", False)

    (labelled / "new").mkdir()
    os.setxattr(labelled / "new", cgroup.LABEL, b"off")
    came = tree.refresh(), {each.path: each.label for each in tree.directories}
    os.setxattr(labelled / "below", cgroup.LABEL, b"hold")
    changed = tree.refresh(), {each.path: each.label for each in tree.directories}
    (labelled / "new").rmdir()
    went = tree.refresh(), {each.path: each.label for each in tree.directories}

    assert came == (True, {"/": "default", "/below": None, "/new": "off"})
    assert changed == (True, {"/": "default", "/below": "hold", "/new": "off"})
    assert went == (True, {"/": "default", "/below": "hold"})
    assert not tree.refresh()


def test_watches_of_cgroups_that_went_do_not_pile_up(labelled, tree):
    for _ in range(20):
        (labelled / "passing").mkdir()
        tree.refresh()
        (labelled / "passing").rmdir()
        tree.refresh()

    fdinfo = Path(f"/proc/self/fdinfo/{tree._inotify.fileno()}")  # noqa: SLF001 - nobody else is told
    assert fdinfo.read_text().count("inotify wd:") == 2
