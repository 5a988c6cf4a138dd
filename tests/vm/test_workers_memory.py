# SPDX-License-Identifier: Apache-2.0

"""Memory that the processes of a job share moves once for all of them, to who reads it; a stranger's stays."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import node_sysfs
from numad_py.kernel.cgroup import read_mount_point
from numad_py.model import Ending, MovePages, Reason
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import Costs, LiveSensor
from numad_py.workers import Workers
from tests.vm import fill
from tests.vm.moving import MB, PAGE, act, key_of, move_of, nodes_of_each, pages_on, read
from tests.vm.running import PATIENCE_S, REST

everywhere = pytest.mark.guest("two-nodes", "four-nodes")

RIGHT_SHARE = 0.9
STRANGER = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
bytes(mapped[::mmap.PAGESIZE])
print("mapped", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path):
    """Give the path of a file to be, on a disk."""
    with fill.disk(tmp_path) as mount:
        yield mount / "data"


def stranger(path):
    """Start a process of no job that maps a file and reads all of it."""
    words = [sys.executable, "-c", STRANGER, str(path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mapped\n"
    return process


def workers_of(parent):
    _, *pids = parent.ask("workers")
    return [int(pid) for pid in pids]


def until(found):
    """Ask again and again until something is found; give it."""
    until_s = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < until_s
        time.sleep(0.1)
    return answer


def mapping(pid, path):
    """Give where a process has mapped a file, and pages of it; what a fork left it has none."""
    own = until(
        lambda: [line for line in read(pid, "numa_maps") if f" file={path} " in line and " N" in line]
    )
    start = own[0].split()[0]
    (end,) = (line.split()[0].split("-")[1] for line in read(pid, "maps") if line.startswith(f"{start}-"))
    return int(start, 16), int(end, 16)


def bring(pid, start, end, among):
    """Wish that a range were on node 1 for all who map it."""
    column = np.array([start], np.uint64), np.array([end], np.uint64), np.array([PAGE])
    keys = tuple(map(key_of, among))
    return MovePages(key_of(pid), *column, (0,), (1,), end - start, Reason.MEMORY_FOLLOWS_CPU, among=keys)


def shared_files(sensor, pid, processes):
    """Look once; give the files of which a process is told that its job shares them, once so many are seen."""
    seen = sensor.look()
    if len(seen.processes) < processes:
        return None
    (regions,) = (each.regions for each in seen.processes if each.key.pid == pid)
    starts = {f"{start:x}" for start in regions.start[regions.shared].tolist()}
    names = (line.split(None, 5)[5:] for line in read(pid, "maps") if line.split("-")[0] in starts)
    return [name for (name,) in filter(None, names) if name.startswith("/")]


@everywhere
def test_what_forked_processes_share_moves_for_both(workload):
    running = workload("forked", "--mb=2")
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    among = key_of(running.pid), key_of(int(child))

    outcome = act(replace(move_of(running), among=among))

    assert (outcome.ending, outcome.failed, outcome.detail) == (Ending.DONE, {}, "")
    assert len(pages_on(running, 1)) == 2 * MB // PAGE
    assert set(nodes_of_each(int(child), running.start, running.end)) == {1}


@everywhere
def test_what_forked_processes_share_is_spread_for_both(workload):
    running = workload("forked", "--mb=2")
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    among = key_of(running.pid), key_of(int(child))

    outcome = act(replace(move_of(running), targets=(0, 1), limit_bytes=MB, among=among))

    where = nodes_of_each(running.pid, running.start, running.end)
    assert (outcome.ending, outcome.moved_bytes, outcome.failed) == (Ending.DONE, MB, {})
    assert where == nodes_of_each(int(child), running.start, running.end)
    assert where[:4] in ([0, 1, 0, 1], [1, 0, 1, 0])


@everywhere
def test_a_process_that_was_forked_and_is_not_of_the_job_keeps_its_memory(workload):
    running = workload("forked", "--mb=2")

    outcome = act(replace(move_of(running), among=(key_of(running.pid),)))

    assert "which is not of the job, maps it too" in outcome.detail
    assert outcome.failed == {"EACCES": 2 * MB // PAGE}
    assert len(pages_on(running, 0)) == 2 * MB // PAGE


@everywhere
def test_a_file_moves_for_the_job_that_maps_it_but_not_while_a_stranger_does(file, job):
    group = job()
    parent = group.start("shards", "--mapping=file", f"--file={file}", "--mb=16", REST)
    group.label("default")
    among = parent.pid, *workers_of(parent)
    ranges = {pid: mapping(pid, file) for pid in among}
    jobs, costs = Jobs(read_mount_point(), Rules()), Costs(budget_core_share=1.0)
    sensor = LiveSensor(node_sysfs.read_topology(), Workers(), jobs, costs=costs)
    os.sync()
    wish = bring(among[1], *ranges[among[1]], among)

    with stranger(file) as other:
        while_mapped = act(wish), [set(nodes_of_each(pid, *ranges[pid])) for pid in among]
        until(lambda: shared_files(sensor, among[1], len(among)) == [])
        other.stdin.close()
    sensor.moved(map(key_of, among))
    until(lambda: shared_files(sensor, among[1], len(among)) == [str(file)])  # and no library
    afterwards = act(wish), [set(nodes_of_each(pid, *ranges[pid])) for pid in among]
    sensor.close()

    assert while_mapped[0].moved_bytes == 0
    assert f"process {other.pid} " in while_mapped[0].detail
    assert while_mapped[1] == [{0}] * 3
    assert (afterwards[0].moved_bytes, afterwards[0].detail) == (16 * MB, "")
    assert afterwards[1] == [{1}] * 3


@pytest.mark.guest("four-nodes")
def test_each_half_of_an_array_and_of_a_file_goes_to_its_reader(file, job, daemon):
    daemon(mode="act")
    groups = [job(name) for name in ("array", "file")]
    options = "--mb=32", REST
    began_s = time.monotonic()
    array = groups[0].start("shards", *options)
    mapped = groups[1].start("shards", *options, "--mapping=file", f"--file={file}")
    for group in groups:
        group.label("default")
    halves = [*shards(workers_of(array), lambda _: (array.start, array.end))]
    halves += shards(workers_of(mapped), lambda pid: mapping(pid, file))

    while min(shares := [right_share(*half) for half in halves]) < RIGHT_SHARE:
        assert time.monotonic() < began_s + PATIENCE_S, shares
        time.sleep(0.5)

    print(f"\nplaced right after {time.monotonic() - began_s:.0f} s: {shares}", end="")


def shards(pids, where):
    """Give of each worker its node, its PID, and where its part is."""
    for node, pid in enumerate(pids):
        start, end = where(pid)
        half = (end - start) // 2
        yield node, pid, start + node * half, start + (node + 1) * half


def right_share(node, pid, start, end):
    """Give the share of a worker's part that is on its node."""
    return nodes_of_each(pid, start, end).count(node) * PAGE / (end - start)
