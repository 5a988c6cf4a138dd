# SPDX-License-Identifier: Apache-2.0

"""Every sense says what it reads here, and what is lacking names the one thing that would help."""

from dataclasses import replace
from pathlib import Path

import pytest

from numad_py.sense import visible
from numad_py.sense.visible import Host, Seen
from tests.fake_root import FORBIDDEN, FakeRoot

RECORDED = Path(__file__).parents[2] / "recorded/gpu"
ALL = frozenset({"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_PERFMON"})
CPU = "sys/bus/event_source/devices/cpu/type"
IBS = "sys/bus/event_source/devices/ibs_op/type"
SPE = "sys/bus/event_source/devices/arm_spe_0/type"
PEBS = "sys/bus/event_source/devices/cpu/events/mem-loads"
BALANCING = "proc/sys/kernel/numa_balancing"
PARANOID = "proc/sys/kernel/perf_event_paranoid"
KDAMONDS = "sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds"


def on(root, files=None, *, capabilities=ALL, nvml=False):
    for path, text in (files or {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Host(root, frozenset(capabilities), nvml)


def mounted(super_options="rw", kind="cgroup2"):
    return {
        "proc/self/mountinfo": f"1 1 0:1 / /cg rw - {kind} x rw\n2 1 0:2 / /proc rw - proc proc {super_options}\n"
    }


@pytest.mark.parametrize(
    ("online", "seen"), [(None, Seen.NO), ("0\n", Seen.LIMITED), ("0-1\n", Seen.YES), ("0,8\n", Seen.YES)]
)
def test_with_fewer_than_two_nodes_there_is_nothing_to_place(tmp_path, online, seen):
    files = {} if online is None else {"sys/devices/system/node/online": online}

    finding = visible.nodes(on(tmp_path, files))

    assert finding.seen is seen
    assert bool(finding.remedy) is (seen is not Seen.YES)


@pytest.mark.parametrize(("kind", "seen"), [("cgroup2", Seen.YES), ("cgroup", Seen.NO)])
def test_labels_need_cgroup_v2(tmp_path, kind, seen):
    finding = visible.labels(on(tmp_path, mounted(kind=kind)))

    assert finding.seen is seen
    assert ("/cg" in finding.source) is (seen is Seen.YES)


def test_a_mount_whose_name_is_not_utf_8_hides_no_other(tmp_path):
    host = on(tmp_path, mounted("rw,hidepid=2"), capabilities=())
    mountinfo = tmp_path / "proc/self/mountinfo"
    mountinfo.write_bytes(b"3 1 0:3 / /home/\xff rw - fuse x rw\n" + mountinfo.read_bytes())

    assert (visible.labels(host).seen, visible.cpu_residency(host).seen) == (Seen.YES, Seen.LIMITED)


@pytest.mark.parametrize(
    ("kind", "controllers", "source"),
    [
        ("cgroup2", "cpu memory\n", "memory.numa_stat"),
        ("cgroup2", "cpu\n", "numa_maps of its processes, read more often"),
        ("cgroup", "", "numa_maps of its processes, read more often"),
    ],
)
def test_a_jobs_placement_comes_from_the_memory_controller_or_from_each_process(
    tmp_path, kind, controllers, source
):
    finding = visible.job_placement(on(tmp_path, mounted(kind=kind) | {"cg/cgroup.controllers": controllers}))

    assert finding.source == source
    assert bool(finding.remedy) is (source != "memory.numa_stat")


@pytest.mark.parametrize(
    ("files", "capabilities", "seen", "lacking"),
    [
        ({"proc/self/numa_maps": ""}, ALL, Seen.YES, ""),
        ({"proc/self/numa_maps": ""}, (), Seen.LIMITED, "CAP_SYS_PTRACE"),
        ({}, ALL, Seen.NO, "CONFIG_NUMA"),
    ],
)
def test_other_users_pages_need_a_right_and_any_pages_a_kernel_with_numa(
    tmp_path, files, capabilities, seen, lacking
):
    finding = visible.process_placement(on(tmp_path, files, capabilities=capabilities))

    assert finding.seen is seen
    assert lacking in finding.remedy


@pytest.mark.parametrize(
    ("options", "capabilities", "seen"),
    [
        ("rw", (), Seen.YES),
        ("rw,hidepid=0", (), Seen.YES),
        ("rw,hidepid=off", (), Seen.YES),
        ("rw,gid=4,hidepid=2", (), Seen.LIMITED),
        ("rw,hidepid=invisible", (), Seen.LIMITED),
        ("rw,hidepid=invisible", ALL, Seen.YES),
    ],
)
def test_threads_are_hidden_only_by_hidepid(tmp_path, options, capabilities, seen):
    assert visible.cpu_residency(on(tmp_path, mounted(options), capabilities=capabilities)).seen is seen


@pytest.mark.parametrize(
    ("paranoid", "capabilities", "seen"),
    [
        ("4", ALL, Seen.YES),
        ("4", ["CAP_SYS_ADMIN"], Seen.YES),
        ("4", (), Seen.NO),
        ("3", ["CAP_PERFMON"], Seen.NO),
        ("2", ["CAP_PERFMON"], Seen.YES),
        ("2", (), Seen.LIMITED),
        ("1", (), Seen.LIMITED),
        ("0", (), Seen.YES),
        ("-1", (), Seen.YES),
    ],
)
@pytest.mark.parametrize(("check", "file"), [(visible.counters, CPU), (visible.access_samples, IBS)])
def test_what_perf_shows_hangs_on_a_capability_or_a_sysctl(
    tmp_path, check, file, paranoid, capabilities, seen
):
    finding = check(on(tmp_path, {file: "4\n", PARANOID: paranoid}, capabilities=capabilities))

    assert finding.seen is seen
    assert ("CAP_PERFMON" in finding.remedy) is (seen is not Seen.YES)


def test_a_machine_without_counters_says_so(tmp_path):
    finding = visible.counters(on(tmp_path, {"sys/bus/event_source/devices/software/type": "1\n"}))

    assert finding.seen is Seen.NO


def test_a_kernel_without_perf_events_says_so(tmp_path):
    assert "CONFIG_PERF_EVENTS" in visible.access_samples(on(tmp_path, {BALANCING: "1\n"})).remedy


@pytest.mark.parametrize(
    ("files", "seen", "source"),
    [
        ({IBS: "10"}, Seen.YES, "IBS"),
        ({SPE: "10"}, Seen.YES, "SPE"),
        ({PEBS: "event=0xcd"}, Seen.YES, "PEBS"),
        ({IBS: "10", BALANCING: "1"}, Seen.YES, "IBS"),
        ({CPU: "4", BALANCING: "1"}, Seen.LIMITED, "hint faults of kernel.numa_balancing"),
        ({BALANCING: "3"}, Seen.LIMITED, "hint faults of kernel.numa_balancing"),
        ({BALANCING: "2"}, Seen.NO, ""),
        ({CPU: "4", BALANCING: "0"}, Seen.NO, ""),
        ({}, Seen.NO, ""),
    ],
)
def test_accesses_come_from_the_cpus_sampler_else_from_hint_faults(tmp_path, files, seen, source):
    finding = visible.access_samples(on(tmp_path, {PARANOID: "2"} | files))

    assert (finding.seen, finding.source) == (seen, source)
    assert bool(finding.remedy) is (seen is not Seen.YES)


@pytest.mark.parametrize(
    ("files", "seen", "lacking"),
    [
        ({KDAMONDS: "0\n"}, Seen.YES, ""),
        ({KDAMONDS: "1\n"}, Seen.NO, "somebody else"),
        ({KDAMONDS: "0\n", "sys/module/damon_reclaim/parameters/enabled": "Y\n"}, Seen.NO, "damon_reclaim"),
        ({KDAMONDS: "0\n", "sys/module/damon_lru_sort/parameters/enabled": "N\n"}, Seen.YES, ""),
        ({}, Seen.NO, "CONFIG_DAMON_SYSFS"),
    ],
)
def test_damon_is_used_only_where_nobody_uses_it(tmp_path, files, seen, lacking):
    finding = visible.heat(on(tmp_path, files))

    assert finding.seen is seen
    assert lacking in finding.remedy


def test_without_damon_idle_page_tracking_shows_heat_and_not_whose(tmp_path):
    files = {"sys/kernel/mm/page_idle/bitmap": ""}

    with_right, without = (
        visible.heat(replace(on(tmp_path, files), capabilities=frozenset(granted)))
        for granted in ({"CAP_SYS_ADMIN"}, set())
    )

    assert (with_right.seen, without.seen) == (Seen.LIMITED, Seen.NO)
    assert "does not tell who" in with_right.source
    assert "CONFIG_DAMON_SYSFS" in with_right.remedy


def test_damons_files_need_root(tmp_path):
    host = on(tmp_path, {KDAMONDS: "0\n"})
    (tmp_path / KDAMONDS).unlink()
    (tmp_path / KDAMONDS).symlink_to(FORBIDDEN)

    assert "root" in visible.heat(host).remedy


@pytest.mark.parametrize(
    ("machine", "nvml", "seen", "source"),
    [
        ("dgx-a100", True, Seen.YES, "NVML"),
        ("dgx-a100", False, Seen.LIMITED, "open /dev/nvidiaN"),
        ("mi210", False, Seen.YES, "KFD's queues"),
    ],
)
def test_gpus_are_told_by_the_drivers_list_else_by_open_devices(machine, nvml, seen, source):
    finding = visible.gpus(on(RECORDED / machine, nvml=nvml))

    assert (finding.seen, finding.source) == (seen, source)
    assert bool(finding.remedy) is (seen is not Seen.YES)


def test_in_a_container_only_open_devices_tell(tmp_path):
    (tmp_path / "proc/driver/nvidia/gpus").mkdir(parents=True)

    finding = visible.gpus(on(tmp_path, nvml=True))

    assert (finding.seen, finding.source) == (Seen.LIMITED, "open /dev/nvidiaN")
    assert "container" in finding.remedy


def test_a_machine_without_gpus_lacks_nothing(tmp_path):
    finding = visible.gpus(on(tmp_path))

    assert (finding.seen, finding.remedy) == (Seen.NO, "")


def test_every_sense_is_checked_on_a_whole_machine(tmp_path):
    root = FakeRoot(tmp_path)
    root.write("proc/self/uid_map", "0 0 4294967295\n")
    root.write("proc/self/status", "CapEff:\t0000000000000000\n")

    found = visible.findings(visible.host(tmp_path))

    assert len({finding.sense for finding in found}) == len(visible.CHECKS)
    assert found[0] == visible.Finding("nodes", Seen.YES, "2 nodes: 0-1")
