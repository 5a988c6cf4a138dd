# SPDX-License-Identifier: Apache-2.0

"""The guest is the machine that the table promises, and the bench measures it truly."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.vm import job_memory, observer
from tests.vm.conftest import LABEL
from tests.vm.running import PATIENCE_S

NODES = Path("/sys/devices/system/node")
MB = 1 << 20

everywhere = pytest.mark.guest("two-nodes", "four-nodes")


@everywhere
def test_the_kernel_is_of_the_series_in_the_table(guest):
    assert os.uname().release.startswith(f"{guest.kernel}.")


@everywhere
def test_every_node_has_the_cpus_of_the_table(guest):
    cpus = [tuple(sorted(job_memory.cpus_of(node))) for node in range(len(guest.nodes))]

    assert cpus == [node.cpus for node in guest.nodes]


@everywhere
def test_every_node_has_nearly_the_memory_of_the_table(guest):
    for index, node in enumerate(guest.nodes):
        line = (NODES / f"node{index}/meminfo").read_text().splitlines()[0]
        total_mib = int(line.split()[-2]) / 1024

        assert 0.85 * node.mib < total_mib <= node.mib


@everywhere
def test_the_distances_are_those_of_the_table_in_both_directions(guest):
    rows = [(NODES / f"node{index}/distance").read_text().split() for index in range(len(guest.nodes))]

    assert tuple(tuple(map(int, row)) for row in rows) == guest.distances


@everywhere
def test_the_kernel_balances_nothing_during_the_tests_though_it_did_at_boot():
    assert os.environ["NUMAD_VM_BALANCING_AT_BOOT"] == "1"
    assert Path("/proc/sys/kernel/numa_balancing").read_text().strip() == "0"


@everywhere
def test_cgroup_v2_has_its_controllers_and_nothing_of_version_1():
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]

    assert {"cpuset", "cpu", "io", "memory", "pids"} <= set(controllers)
    assert [mount for mount in mounts if mount[2] in {"cgroup", "cgroup2"}] == [
        ["cgroup2", "/sys/fs/cgroup", "cgroup2", "rw,relatime", "0", "0"]
    ]


@everywhere
def test_a_label_on_a_cgroup_is_read_back(job):
    cgroup = job()

    cgroup.label("default")

    assert os.getxattr(cgroup.path, LABEL) == b"default"


def test_a_job_has_the_memory_controller_only_when_asked_for(job):
    without = (job().path / "memory.numa_stat").exists()
    cgroup = job(memory=True)
    running = cgroup.start("late-bound", "--mb=32")

    lines = (cgroup.path / "memory.numa_stat").read_text().splitlines()
    anon = dict(word.split("=") for word in lines[0].split()[1:])

    assert not without
    assert int(anon["N0"]) >= 32 * MB
    assert str(running.pid) in (cgroup.path / "cgroup.procs").read_text().split()


def test_a_process_moved_in_late_leaves_its_charges_behind(job, workload):
    cgroup = job(memory=True)
    running = workload("late-bound", "--mb=32")

    cgroup.adopt(running.pid)

    assert str(running.pid) in (cgroup.path / "cgroup.procs").read_text().split()
    assert int((cgroup.path / "memory.current").read_text()) < 8 * MB


def test_the_end_of_a_job_ends_its_processes(job, workload):
    cgroup = job()
    running = workload("late-bound", "--mb=1")
    cgroup.adopt(running.pid)

    cgroup.remove()

    assert not cgroup.path.exists()
    assert running.process.wait(timeout=PATIENCE_S) < 0


@pytest.mark.parametrize("pages", ["4k", "huge"])
def test_a_late_bound_job_runs_on_one_node_and_has_its_memory_on_the_other(workload, pages):
    running = workload("late-bound", "--mb=64", f"--pages={pages}")

    running.tell("bind")
    running.goes_on()

    assert running.end - running.start == 64 * MB
    assert os.sched_getaffinity(running.pid) == job_memory.cpus_of(1)
    assert observer.resident_bytes(running.pid, files=False)[0] >= 64 * MB


@pytest.mark.parametrize(("pages", "most_is_huge"), [("4k", False), ("huge", True)])
def test_a_job_gets_the_page_size_it_asks_for(workload, pages, most_is_huge):
    running = workload("late-bound", "--mb=64", f"--pages={pages}")

    lines = Path(f"/proc/{running.pid}/smaps_rollup").read_text().splitlines()
    (huge_kb,) = (int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

    assert (huge_kb * 1024 >= 60 * MB) is most_is_huge


def test_a_bound_job_shows_its_mempolicy(workload):
    running = workload("bound", "--mb=8")

    maps = Path(f"/proc/{running.pid}/numa_maps").read_text().splitlines()
    (mine,) = (line for line in maps if line.startswith(f"{running.start:x} "))

    assert mine.split()[1] == "bind:0"


def test_a_job_that_execs_is_the_same_process_with_new_memory(workload):
    running = workload("exec", "--mb=64")
    running.tell("bind")
    began = Path(f"/proc/{running.pid}/stat").read_text().rsplit(")")[1].split()[19]

    running.tell("exec")
    running.await_ready()

    assert Path(f"/proc/{running.pid}/stat").read_text().rsplit(")")[1].split()[19] == began
    assert observer.resident_bytes(running.pid, files=False)[0] >= 64 * MB


def test_pinned_pages_stay_when_the_process_is_migrated(workload):
    running = workload("pinned", "--mb=8", "--pin", "0", "1000", "2047")

    subprocess.run(["migratepages", str(running.pid), "0", "1"], check=True)

    maps = Path(f"/proc/{running.pid}/numa_maps").read_text().splitlines()
    (mine,) = (line.split() for line in maps if line.startswith(f"{running.start:x} "))
    assert {"N0=3", "N1=2045"} <= set(mine)


def test_a_reader_keeps_reading_its_file(workload, tmp_path):
    file = tmp_path / "data"
    file.write_bytes(bytes(4 * MB))
    running = workload("reader", "--mb=1", f"--file={file}")

    running.tell("bind")

    running.goes_on()


@everywhere
def test_the_observer_agrees_with_numastat_on_every_node(guest, workload):
    running = workload("late-bound", "--mb=64", "--allocate-on=1", "--run-on=0")

    ours = observer.resident_bytes(running.pid)
    theirs = observer.numastat_bytes(running.pid)

    assert sorted(theirs) == list(range(len(guest.nodes)))
    assert theirs == pytest.approx({node: ours[node] for node in theirs}, abs=0.5 * MB)
    assert ours[1] > 64 * MB


@pytest.mark.guest("four-nodes")
def test_memory_goes_to_a_node_without_cpus(workload):
    running = workload("late-bound", "--mb=64", "--allocate-on=0")

    subprocess.run(["migratepages", str(running.pid), "0", "2"], check=True)

    assert observer.resident_bytes(running.pid, files=False)[2] >= 64 * MB


def test_the_observer_gives_the_moment_at_which_the_share_is_met(workload):
    running = workload("late-bound", "--mb=32")
    began_s = time.monotonic()

    subprocess.run(["migratepages", str(running.pid), "0", "1"], check=True)
    met_s = observer.wait_for_share(running.pid, 1, 0.95, limit_s=PATIENCE_S)

    assert began_s < met_s <= time.monotonic()


def test_the_observer_gives_up_with_the_placement_it_saw(workload):
    running = workload("late-bound", "--mb=32")

    with pytest.raises(TimeoutError, match=r"MiB by node \{0: 3\d.*not 0\.95 on 1"):
        observer.wait_for_share(running.pid, 1, 0.95, limit_s=0.3)


def test_the_observer_is_quick_beside_what_it_watches(workload, promise):
    running = workload("late-bound", "--mb=200")
    began_s = time.monotonic()

    for _ in range(5):
        observer.anonymous_share(running.pid, 0)

    promise("a reading of a job of 200 MB, in s", (time.monotonic() - began_s) / 5, at_most=0.2)


@everywhere
def test_the_checkout_is_read_only():
    mount = os.statvfs(Path(__file__).parent)

    assert mount.f_flag & os.ST_RDONLY
