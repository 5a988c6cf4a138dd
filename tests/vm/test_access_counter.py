# SPDX-License-Identifier: Apache-2.0

"""The access counter tells what happened: it agrees with jobs whose accesses are known, and judges the sensor."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import node_sysfs
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import Costs, LiveSensor
from numad_py.sim.use import Users
from numad_py.workers import Workers
from tests.vm.access_counts import READ_LINES, AccessCounts, seconds_path_of
from tests.vm.conftest import CGROUPS, GUEST
from tests.vm.guests import BY_NAME
from tests.vm.running import PATIENCE_S

pytestmark = pytest.mark.guest(*(name for name, guest in BY_NAME.items() if guest.counted))

MB = 1 << 20
LINE_BYTES = 64
PAGE_BYTES = 4096
JOB_KB = 64 << 10
PASSES = 16
ACCESSES = PASSES * (JOB_KB << 10) // LINE_BYTES
FOR_EVER = 1_000_000

NODES = range(len(BY_NAME[GUEST].nodes) if GUEST else 1)
CPUS = [node.cpus[0] for node in BY_NAME[GUEST].nodes if node.cpus] if GUEST else [0]


@pytest.fixture
def lines(program):
    """Start a job whose memory is bound to a node, or is where its main thread first ran: on a CPU."""

    def start(*cpus, bound_to=None, first_on=0, kb=JOB_KB, cgroup=None):
        where = ["taskset", "-c", str(first_on)] if bound_to is None else ["numactl", f"--membind={bound_to}"]
        return program(*where, str(READ_LINES), str(kb), *map(str, cpus), cgroup=cgroup)

    return start


@pytest.fixture
def counted(guest):
    """Count what is accessed while something is done: ``counted(job.ask, "8")``."""

    def count(do, *arguments):
        before = AccessCounts.read(guest)
        do(*arguments)
        counts = AccessCounts.read(guest) - before
        print(f"\n{counts}", end="")
        return counts

    return count


@pytest.mark.parametrize("target", NODES)
@pytest.mark.parametrize("cpu", CPUS)
def test_every_access_is_counted_for_the_node_that_asks_and_the_node_that_answers(
    lines, counted, cpu, target
):
    job = lines(cpu, bound_to=target)

    counts = counted(job.ask, PASSES)

    assert counts.by_node[CPUS.index(cpu), target] == pytest.approx(ACCESSES, rel=0.02)
    assert counts.by_node.sum() == pytest.approx(ACCESSES, rel=0.02)
    assert counts.elsewhere == 0


@pytest.mark.parametrize("target", NODES)
def test_accesses_are_counted_for_the_2_mib_of_memory_in_which_they_fall(lines, counted, guest, target):
    job = lines(CPUS[0], bound_to=target)
    expected = lines_of_blocks(job, guest, target) * PASSES

    by_block = counted(job.ask, PASSES).by_block(target).sum(axis=0).astype(np.int64)

    assert expected.sum() == ACCESSES
    assert np.abs(by_block - expected).sum() < 0.02 * ACCESSES


def lines_of_blocks(job, guest, node):
    """Give the lines of a job's memory in each 2 MiB of a node, as /proc/PID/pagemap tells."""
    with Path(f"/proc/{job.pid}/pagemap").open("rb", buffering=0) as pagemap:
        entries = os.pread(
            pagemap.fileno(), (job.end - job.start) // PAGE_BYTES * 8, job.start // PAGE_BYTES * 8
        )
    frame = np.frombuffer(entries, np.uint64) & np.uint64((1 << 55) - 1)
    # The machine has less memory than would reach the hole below 4 GiB, so that its nodes lie end to end.
    first_mib = sum(before.mib for before in guest.nodes[:node])
    block = (frame.astype(np.int64) * PAGE_BYTES - first_mib * MB) // (2 * MB)
    return np.bincount(block, minlength=guest.nodes[node].mib // 2) * (PAGE_BYTES // LINE_BYTES)


def test_pages_that_moved_are_counted_where_they_are_now(lines, counted):
    job = lines(CPUS[1], first_on=CPUS[0])

    before = counted(job.ask, PASSES)
    subprocess.run(["migratepages", str(job.pid), "0", "1"], check=True)
    after = counted(job.ask, PASSES)

    assert before.by_node[1, 0] == pytest.approx(ACCESSES, rel=0.02)
    assert after.by_node[1, 1] == pytest.approx(ACCESSES, rel=0.02)


def test_what_fits_the_cache_is_counted_once(lines, counted):
    job = lines(CPUS[0], bound_to=0, kb=512)

    counts = counted(job.ask, PASSES * 128)

    assert counts.by_node.sum() < 0.02 * ACCESSES


def test_the_seconds_add_up_to_what_was_counted(lines, guest):
    lines(CPUS[1], bound_to=0).ask(PASSES)
    before = AccessCounts.read(guest).by_node

    until_s = time.monotonic() + PATIENCE_S
    while (total_of_seconds(guest) < before).any():
        assert time.monotonic() < until_s, f"{total_of_seconds(guest)} of {before}"
        time.sleep(0.2)
    seconds = total_of_seconds(guest)

    assert (seconds <= AccessCounts.read(guest).by_node).all()


def total_of_seconds(guest):
    """Add up accesses.csv, in which the host writes a line each second."""
    lines = seconds_path_of(guest).read_text().splitlines()[1:]
    rows = [line.split(",")[1:] for line in lines]
    return np.array(rows, np.int64).sum(axis=0).reshape(len(NODES), -1)


def late_bound(lines, job):
    return [lines(1, cgroup=job)]


def halves(lines, job):
    return [lines(0, 1, cgroup=job)]


def crossed(lines, job):
    return [lines(1, first_on=0, cgroup=job), lines(0, first_on=1, cgroup=job)]


@pytest.mark.parametrize(("start", "share"), [(late_bound, 1.0), (halves, 0.5), (crossed, 1.0)])
def test_what_the_sensor_sees_agrees_with_the_remote_share_that_was(lines, counted, job, start, share):
    group = job()
    group.label("default")
    for running in start(lines, group):
        running.tell(FOR_EVER)
    costs = Costs(budget_core_share=1.0)  # else a slow host puts off the second reading
    sensor = LiveSensor(node_sysfs.read_topology(), Workers(), Jobs(CGROUPS, Rules()), costs=costs)
    sensor.look()

    truth = counted(time.sleep, 3).remote_share
    seen = remote_share_of(sensor.look())

    print(f"\nseen {seen:.3f}", end="")
    assert truth == pytest.approx(share, abs=0.05)
    assert seen == pytest.approx(truth, abs=0.05)


def remote_share_of(snapshot):
    """Give the share of CPU time that reached for another node, were all memory used alike."""
    use = Users(len(snapshot.topology.nodes)).look(snapshot)
    return float((use.cpu_s * (1 - use.page_share)).sum() / use.cpu_s.sum())
