# SPDX-License-Identifier: Apache-2.0

"""Hint faults tell which threads use which memory, on a real kernel with its balancing on.

The truth is the workload's own word: it says which thread is on which node, and each writes its half only.
"""

import dataclasses
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import maps, node_sysfs, numa_maps, proc_stat, vmstat
from numad_py.model import Process, ProcessKey, Threads
from numad_py.sense.cpu_time import CpuTime
from numad_py.sense.investigate import access_sources
from numad_py.sense.investigate.access_sampling import AccessSampler
from tests.vm.job_memory import address_of

BALANCING = Path("/proc/sys/kernel/numa_balancing")
SCANS = Path("/sys/kernel/debug/sched/numa_balancing")
# The threads begin in the midst of the kernel's slowest start; the scan is told to be as quick as on a real machine
# of this speed, where everything is about twenty times slower.
SETTINGS = {"scan_delay_ms": "100", "scan_period_min_ms": "200", "scan_period_max_ms": "1000"}
WITHIN_S = 10.0
RIGHT_SHARE = 0.9
FAULTING_BYTES = 64 << 20
PAGE = mmap.PAGESIZE


@pytest.fixture
def balancing():
    """Switch NUMA balancing on for a test, with short scan periods."""
    was = {name: (SCANS / name).read_text() for name in SETTINGS}
    for name, value in SETTINGS.items():
        (SCANS / name).write_text(value)
    BALANCING.write_text("1")
    yield
    BALANCING.write_text("0")
    for name, value in was.items():
        (SCANS / name).write_text(value)


@pytest.fixture
def topology():
    return node_sysfs.read_topology()


@pytest.fixture
def sampler(topology):
    made = AccessSampler(topology, access_sources.HINT_FAULTS)
    yield made
    made.stop()


def ticks_of(pid):
    """Give the CPU time of all threads."""
    stat = proc_stat.read(pid)
    return stat.utime_ticks + stat.stime_ticks


def as_snapshot_has_it(pid, topology):
    """Describe a process with all of its threads that ran in the last moment."""
    key = ProcessKey(pid, proc_stat.read(pid).start_ticks)
    cpu_time = CpuTime()
    cpu_time.read(key, ticks_of(pid))
    time.sleep(0.5)
    threads = cpu_time.read(key, ticks_of(pid))
    placed = numa_maps.parse(numa_maps.read(pid), topology.node_ids, topology.page_bytes)
    mapped = maps.parse(maps.read(pid))
    regions = numa_maps.regions(placed, mapped.start, mapped.end)
    return Process(key, "workload", topology.node_ids, threads, regions, 0.0)


def counts_of(accesses, start, end):
    """Give the samples of a range by node; a region that reaches beyond it counts by its middle."""
    middle = accesses.start // 2 + accesses.end // 2
    rows = (middle >= start) & (middle < end)
    counts = accesses.counts[rows].sum(axis=0)
    return {group.node: int(count) for group, count in zip(accesses.groups, counts, strict=True)}


def with_idle_thread(process, tid):
    """Add a thread that did not run."""
    threads = process.threads
    added = Threads(np.append(threads.tid, tid), np.append(threads.cpu, 0), np.append(threads.cpu_s, 0.0))
    return dataclasses.replace(process, threads=added)


@pytest.fixture
def halves(job):
    """Start threads on the halves of one array, in a cgroup; all of them are gone before the cgroup goes."""
    cgroup = job()
    started = cgroup.start("halves", "--mb=128")
    threads = {int(tid): int(node) for _, tid, node in (started.answer(), started.answer())}
    yield cgroup, started, threads
    started.process.kill()
    started.process.wait()


@pytest.mark.parametrize("by_cgroup", [False, True])
def test_the_threads_of_each_half_are_told_within_ten_seconds(
    halves, sampler, topology, balancing, promise, by_cgroup
):
    cgroup, job, threads = halves
    process = with_idle_thread(as_snapshot_has_it(job.pid, topology), job.pid)
    before = vmstat.read()["numa_hint_faults"]

    sampler.start([process], cgroup.path if by_cgroup else None)
    began_s = time.monotonic()
    time.sleep(WITHIN_S - 3)
    sampler.stop()
    found = sampler.collect()[process.key]
    promise("s from start to answer", time.monotonic() - began_s, at_most=WITHIN_S)

    made = vmstat.read()["numa_hint_faults"] - before
    half = (job.start + job.end) // 2
    first, second = counts_of(found, job.start, half), counts_of(found, half, job.end)
    print(
        f"\nhalves {first} {second}, seen {sampler.seen.accesses} of {made} hint faults, {sampler.seen.taken} samples in {found.period_s:.1f} s"
    )
    print(f"{sampler.opening}; own time {sampler.cost_s:.3f} s; problems {sampler.problems}")
    low, _ = found.share_bounds()
    print(f"{len(found.start)} regions, the surest {low.max():.2f}")
    assert first.get(0, 0) / sum(first.values()) >= RIGHT_SHARE
    assert second.get(1, 0) / sum(second.values()) >= RIGHT_SHARE
    by_thread = {tid: group.node for group in found.groups for tid in group.tid.tolist() if tid in threads}
    assert by_thread == threads
    assert sampler.opening.by_cgroup is by_cgroup
    assert sampler.problems == ()


def test_what_is_seen_agrees_with_the_kernels_own_count(workload, sampler, topology, balancing):
    job = workload("halves", "--mb=64")
    job.answer()
    job.answer()
    process = as_snapshot_has_it(job.pid, topology)
    before, began_s = vmstat.read()["numa_hint_faults"], time.monotonic()

    sampler.start([process])
    time.sleep(5)
    sampler.stop()

    made = vmstat.read()["numa_hint_faults"] - before
    watched_share = sampler.seen.watched_s / (time.monotonic() - began_s)
    print(f"\nseen {sampler.seen.accesses} of {made} in {watched_share:.2f} of the time")
    assert sampler.collect()[process.key].counts.sum() > 0
    assert sampler.seen.accesses <= 1.05 * made
    assert sampler.seen.accesses >= 0.3 * watched_share * made  # bursts outlast what a window may take


def test_first_touches_and_file_faults_are_nobodys_accesses(sampler, topology, balancing, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(FAULTING_BYTES))
    with file.open("rb") as stream, mmap.mmap(-1, FAULTING_BYTES, flags=mmap.MAP_PRIVATE) as new:
        mapped = mmap.mmap(stream.fileno(), FAULTING_BYTES, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        new.madvise(mmap.MADV_NOHUGEPAGE)
        new[0] = mapped[0] + 1  # so that both have a resident page, as memory that counts must have
        process = with_idle_thread(as_snapshot_has_it(os.getpid(), topology), os.getpid())
        sampler.start([process])
        time.sleep(0.2)
        for page in range(PAGE, FAULTING_BYTES, PAGE):
            new[page] = mapped[page] + 1
        time.sleep(0.2)
        sampler.stop()
        found = sampler.collect().get(process.key)
        areas = [address_of(new), np.frombuffer(mapped, np.uint8).ctypes.data]

    wrong = [sum(counts_of(found, area, area + FAULTING_BYTES).values()) if found else 0 for area in areas]
    assert sampler.problems == ()
    assert sampler.seen.taken > 100
    assert wrong == [0, 0]
