# SPDX-License-Identifier: Apache-2.0

"""The sampler tells this very process's page faults, keeps to what it may take, and leaves nothing behind.

Kernel balancing is not needed: every fault counts as an access here, but where a test says otherwise.
"""

import dataclasses
import gc
import mmap
import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import maps, node_sysfs, numa_maps, perf_events, proc_stat
from numad_py.model import AccessSource, Process, ProcessKey, Threads
from numad_py.sense.investigate.access_sampling import AccessSampler
from numad_py.sense.investigate.access_sources import HINT_FAULTS, PEBS
from numad_py.sense.investigate.sampling_rate import GRANTED, LEAST_WINDOW_S

PAGE = mmap.PAGESIZE
TOPOLOGY = node_sysfs.read_topology()
EVERY_FAULT = dataclasses.replace(
    HINT_FAULTS, kind=AccessSource.PEBS, accessed=lambda samples: np.ones(len(samples), bool)
)
NOWHERE = dataclasses.replace(EVERY_FAULT, event=perf_events.Event("none", 12345, 0))


@pytest.fixture(autouse=True)
def _may_sample():
    try:
        os.close(perf_events.open_event(perf_events.PAGE_FAULTS, pid=0))
        sampling = perf_events.Sampling(1, HINT_FAULTS.fields)
        os.close(perf_events.open_event(perf_events.PAGE_FAULTS, pid=0, sampling=sampling))
    except OSError as error:
        pytest.skip(f"page faults cannot be sampled here: {error}")


@pytest.fixture
def area():
    """Give memory of which only the first page is there, and nobody else's."""
    memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory[0] = 1
    return memory


def descriptors():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def address_of(memory):
    return np.frombuffer(memory, np.uint8).ctypes.data


def this_process(*tids):
    placed = numa_maps.parse(numa_maps.read(os.getpid()), TOPOLOGY.node_ids, TOPOLOGY.page_bytes)
    mapped = maps.parse(maps.read(os.getpid()))
    regions = numa_maps.regions(placed, mapped.start, mapped.end)
    key = ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)
    tid = np.array(tids or [threading.get_native_id()])
    threads = Threads(tid, np.zeros(len(tid), np.int64), np.ones(len(tid)))
    return Process(key, "pytest", TOPOLOGY.node_ids, threads, regions, 0.0)


def sample(sampler, process, memory, *, pages, until=100):
    """Fault page by page, in small doses, until so many samples were taken or all pages are there."""
    sampler.start([process])
    for page in range(1, pages):
        memory[page * PAGE] = 1
        if page % 50 == 0:
            time.sleep(0.02)
        if sampler.seen.taken >= until:
            break
    time.sleep(3 * LEAST_WINDOW_S)
    sampler.stop()
    return sampler.collect()


def test_who_faults_where_is_told(area):
    process = this_process()
    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT)

    found = sample(sampler, process, area, pages=2000)[process.key]

    rows = (found.start >= address_of(area)) & (found.end <= address_of(area) + len(area))
    assert found.counts[rows].sum() > 50
    assert [threading.get_native_id()] in [group.tid.tolist() for group in found.groups]
    assert found.source == AccessSource.PEBS
    assert found.checks is None
    assert found.period_s > 0
    assert sampler.problems == ()
    assert sampler.cost_s > 0


def test_what_is_left_afterwards_is_nothing(area):
    process = this_process()
    sample(AccessSampler(TOPOLOGY, EVERY_FAULT), process, area, pages=100)
    gc.collect()
    held, running = descriptors(), threading.active_count()

    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT)
    for _ in range(3):
        sample(sampler, process, area, pages=100)
    sampler.stop()

    assert len(descriptors() - held) == 0
    assert threading.active_count() == running
    assert "anon_inode:[perf_event]" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(("source", "sees"), [(HINT_FAULTS, False), (PEBS, True)])
def test_hint_faults_do_not_tell_of_what_processes_share(source, sees):
    assert AccessSampler(TOPOLOGY, source).sees_shared is sees


def test_a_sampler_that_was_never_started_may_be_stopped():
    AccessSampler(TOPOLOGY, EVERY_FAULT).stop()


def test_a_thread_that_is_gone_is_left_out_without_a_word(area):
    gone = threading.Thread(target=lambda: None)
    gone.start()
    gone.join()
    process = this_process(threading.get_native_id(), gone.native_id)
    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT)

    found = sample(sampler, process, area, pages=500)

    assert found[process.key].counts.sum() > 0
    assert sampler.problems == ()


def test_an_event_that_this_machine_has_not_is_named():
    process = this_process()
    sampler = AccessSampler(TOPOLOGY, NOWHERE)

    sampler.start([process])
    sampler.stop()

    assert sampler.collect() == {}
    assert sampler.problems[0].startswith("0 of 1 events of pebs could be opened: ")


def test_too_few_descriptors_are_told_in_the_plan():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = this_process(*range(10_000_000, 10_000_064))
    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(descriptors()) + 16, hard))
    try:
        sampler.start([process])
        sampler.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert 1 <= len(sampler.opening.events) <= 8
    assert sampler.opening.left_out == 64 - len(sampler.opening.events)


def test_a_pid_that_is_anothers_by_now_gets_nothing(area):
    process = this_process()
    other = dataclasses.replace(process, key=ProcessKey(process.key.pid, process.key.start_ticks - 1))
    gone = dataclasses.replace(process, key=ProcessKey(1 << 22, 1))
    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT)

    sampler.start([other, gone])
    area[PAGE] = 1
    time.sleep(0.2)
    sampler.stop()

    assert sampler.collect() == {}


def test_memory_without_a_resident_page_is_left_out(area):
    process = this_process()
    empty = dataclasses.replace(process.regions, pages=np.zeros_like(process.regions.pages))
    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT)

    assert sample(sampler, dataclasses.replace(process, regions=empty), area, pages=500) == {}
    assert sampler.seen.taken > 0


def test_first_touches_are_no_hint_faults(area):
    process = this_process()
    sampler = AccessSampler(TOPOLOGY, HINT_FAULTS)

    found = sample(sampler, process, area, pages=2000)

    own = address_of(area)
    rows = (found[process.key].start == own) if found else np.zeros(0, bool)
    assert sampler.seen.taken > 50
    assert not rows.any()


@pytest.mark.parametrize(("made", "believed"), [(0, False), (1 << 20, True)])
def test_more_hint_faults_than_the_kernel_made_are_not_believed(tmp_path, area, made, believed):
    (tmp_path / "proc").mkdir()
    for name in ("self", "sys", str(os.getpid())):
        (tmp_path / "proc" / name).symlink_to(f"/proc/{name}")
    vmstat = tmp_path / "proc/vmstat"
    vmstat.write_text("numa_hint_faults 5\n")
    process = this_process()
    claiming = dataclasses.replace(EVERY_FAULT, kind=AccessSource.HINT_FAULTS)
    sampler = AccessSampler(TOPOLOGY, claiming, root=tmp_path)
    sampler.start([process])
    area[: 100 * PAGE : PAGE] = bytes(100)
    time.sleep(0.3)
    sampler.stop()
    vmstat.write_text(f"numa_hint_faults {5 + made}\n")

    found = sampler.collect()

    assert bool(found) is believed
    assert any("not believed" in problem for problem in sampler.problems) is not believed


def test_a_process_that_faults_without_end_is_looked_at_seldom():
    process = this_process()
    sampler = AccessSampler(TOPOLOGY, EVERY_FAULT, job_share=1e-5)
    sampler.start([process])
    began_s = time.monotonic()

    while time.monotonic() < began_s + 1:
        memory = mmap.mmap(-1, 4 << 20)
        memory[::PAGE] = bytes(len(memory) // PAGE)
        memory.close()
    sampler.stop()

    most_windows = 0.5 / LEAST_WINDOW_S  # the other half of the second was a pause at least
    assert 0 < sampler.seen.taken <= most_windows * (GRANTED + 16)
