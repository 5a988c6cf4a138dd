# SPDX-License-Identifier: Apache-2.0

"""Jobs whose processes are born, end, become others and take each other's numbers under the sensor, thousands of times."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup, node_sysfs
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import LiveSensor
from numad_py.workers import Workers
from tests.faults.conftest import descriptors, until

MIB = 1 << 20
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
STORM = """
import os, sys, time
began_s = time.monotonic()
for _ in range({children}):
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
print(round({children} / (time.monotonic() - began_s)))
"""
HOLDS_50_MB_THEN_BECOMES_SLEEP = """
import os, sys
memory = bytearray(50 << 20)
print("ready", flush=True)
sys.stdin.readline()
os.execvp("sleep", ["sleep", "600"])
"""


def join(directory, pid=0):
    (directory / "cgroup.procs").write_text(str(pid))


def start(directory, script):
    """Start a Python program in a cgroup."""
    words = [sys.executable, "-S", "-c", script]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, preexec_fn=lambda: join(directory), **streams)  # noqa: PLW1509 - no threads yet


@pytest.fixture
def eyes():
    return LiveSensor(node_sysfs.read_topology(), Workers(), Jobs(cgroup.read_mount_point(), Rules()))


def look(eyes, directory):
    """Look, time and again, until there is a process to be told of; give it, or None."""
    found = []

    def seen():
        found[:] = [
            process
            for job in eyes.look().jobs
            if job.path == f"/{directory.name}"
            for process in job.processes
        ]
        return found

    until(seen, patience_s=5.0)
    return found[0] if found else None


def held_bytes(process):
    return int(process.regions.resident_bytes.sum())


def test_a_storm_of_five_thousand_forks_leaves_the_daemon_turning_and_no_descriptor_open(daemon, group):
    directory = group()
    running = daemon()
    running.turns()
    before = descriptors(running.process.pid)

    with start(directory, STORM.format(children=5000)) as storm:
        running.turns(10)
        per_second = int(storm.communicate()[0])

    print(f"{per_second} forks a second")
    assert until(lambda: descriptors(running.process.pid) <= before)
    assert running.stop() == 0
    assert running.strange() == []


def test_cgroups_that_come_and_go_by_the_hundred_end_no_turn(daemon, group):
    directory = group()
    running = daemon()
    running.turns()

    for number in range(600):
        child = directory / f"child-{number}"
        child.mkdir()
        os.setxattr(child, cgroup.LABEL, b"default")
        if number % 3 == 0:
            with subprocess.Popen(["true"], preexec_fn=lambda at=child: join(at)):  # noqa: PLW1509
                pass
        child.rmdir()
    running.turns()

    assert running.stop() == 0
    assert running.strange() == []


def test_a_process_that_becomes_another_program_is_seen_with_its_new_memory(eyes, group):
    directory = group()
    with start(directory, HOLDS_50_MB_THEN_BECOMES_SLEEP) as job:
        job.stdout.readline()
        before = look(eyes, directory)
        job.stdin.write("go\n")
        job.stdin.flush()

        became = until(lambda: held_bytes(look(eyes, directory)) < MIB * 50)
        after = look(eyes, directory)
        job.kill()

    assert held_bytes(before) > 50 * MIB
    assert became
    assert (after.key, after.comm) == (before.key, "sleep")


def with_pid_of(ended):
    """Start a process that has the PID of one that ended; None where another was quicker each time."""
    for _ in range(50):
        LAST_PID.write_text(str(ended - 1))
        process = subprocess.Popen(["sleep", "600"])
        if process.pid == ended:
            return process
        process.kill()
        process.wait()
    return None


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="PIDs cannot be chosen here")
def test_a_pid_that_is_used_again_is_another_process_that_inherits_nothing(eyes, group):
    directory = group()
    with start(directory, HOLDS_50_MB_THEN_BECOMES_SLEEP) as job:
        job.stdout.readline()
        before = look(eyes, directory)
        job.kill()
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # start times are told in such ticks
    again = with_pid_of(job.pid)
    if again is None:
        pytest.skip("others took the PID each time")

    try:
        join(directory, again.pid)
        until(lambda: look(eyes, directory).key != before.key)
        after = look(eyes, directory)
    finally:
        again.kill()
        again.wait()

    assert after.key.pid == before.key.pid
    assert after.key.start_ticks > before.key.start_ticks
    assert after.threads.tid.tolist() in ([], [again.pid])
    assert held_bytes(before) > 50 * MIB > held_bytes(after)


def test_a_daemon_that_was_stopped_for_a_while_goes_on_turn_by_turn(daemon):
    running = daemon()
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    turned = len(running.said("event=tick"))

    running.process.send_signal(signal.SIGCONT)
    time.sleep(1)

    assert (
        1 <= len(running.said("event=tick")) - turned <= 12
    )  # 10 a second, and none of those that were missed
    assert running.stop() == 0


def test_a_daemon_that_is_killed_at_any_moment_starts_again_with_all_it_kept(daemon, tmp_path):
    for _ in range(3):
        running = daemon("--trace", tmp_path / "trace.jsonl", "--trace-ring", "8M")
        running.turns(1)
        running.kill()

    last = daemon("--trace", tmp_path / "trace.jsonl", "--trace-ring", "8M")

    assert last.said("event=started")
    assert not list(tmp_path.glob("*.broken"))
    assert last.stop() == 0
