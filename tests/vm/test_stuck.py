# SPDX-License-Identifier: Apache-2.0

"""A process whose mmap lock is held for long delays nobody but itself.

Its lock is held by a file system that does not answer. Who reads numa_maps or maps
then waits until the lock is free or a fatal signal comes; who calls move_pages(2) or
migrate_pages(2) waits until the lock is free, come what may.
"""

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from numad_py.model import Ending
from numad_py.workers import Unfinished, Workers
from tests.vm import observer
from tests.vm.fuse_file import FuseFile
from tests.vm.moving import MB, act, key_of, move_of, nodes_of_each
from tests.vm.observer import resident_bytes
from tests.vm.running import PATIENCE_S, REST

everywhere = pytest.mark.guest("two-nodes", "four-nodes")  # what each kernel does; the daemon is tried on one

_CALLS = {17: "pread64", 279: "move_pages"}  # arch/x86/entry/syscalls/syscall_64.tbl

MOSTLY = 0.90
HELD_S = 10.0
PROMPT_S = 5.0  # of a guest on a busy host; the daemon waits for a call of its own for one second


@pytest.fixture
def file(tmp_path):
    """Give a file whose file system may withhold its answers; close it after every workload has ended."""
    served = FuseFile(tmp_path / "served")
    yield served
    served.close()


@pytest.fixture
def stick(file):
    """Let a workload started with --file take its own mmap lock and keep it: ``stick(workload)``."""

    def hold(workload):
        file.withhold()
        workload.tell("hold")
        until_s = time.monotonic() + PATIENCE_S
        while not file.withholds:
            assert time.monotonic() < until_s, "the workload never wrote to its file"
            time.sleep(0.02)

    yield hold
    file.release()


@pytest.fixture
def release(file):
    """Let go of the lock: ``release(workload)``."""

    def let_go(workload):
        file.release()
        assert workload.answer() == ["held"]

    return let_go


def with_file(start, file, *options):
    return start("late-bound", REST, *options, f"--file={file.path}")


def ends_within(process, limit_s):
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(limit_s)
    return process.returncode is not None


@everywhere
def test_the_file_holds_the_lock_so_that_numa_maps_waits_and_a_signal_ends_it(file, workload, stick, release):
    running = with_file(workload, file, "--mb=2")
    stick(running)

    readers = [
        subprocess.Popen(["cat", f"/proc/{running.pid}/numa_maps"], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    still_waiting = [not ends_within(reader, 1.5) for reader in readers]
    readers[0].terminate()
    ended_by_signal = ends_within(readers[0], 10)
    other_waits = readers[1].poll() is None
    release(running)

    assert still_waiting == [True, True]
    assert ended_by_signal
    assert other_waits
    assert ends_within(readers[1], 10)


def test_one_stuck_process_is_set_aside_and_named_while_others_are_read(file, workload, stick, release):
    stuck, free = with_file(workload, file, "--mb=2"), workload("late-bound", "--mb=2")
    keys = key_of(stuck.pid), key_of(free.pid)
    stick(stuck)
    workers = Workers()

    held, read = workers.run([(key, partial(resident_bytes, key.pid)) for key in keys])
    named = workers.stuck
    release(stuck)

    assert held is Unfinished.STUCK
    assert read[0] > 2 * MB
    assert named == (keys[0],)


def test_the_daemon_repairs_others_names_the_stuck_one_and_looks_at_it_again(
    file, job, daemon, stick, release
):
    service = daemon(mode="act")
    held, free = job("held"), job("free")
    stuck, other = with_file(held.start, file, "--mb=64"), free.start("late-bound", "--mb=64", REST)
    stuck.tell("bind")
    other.tell("bind")

    stick(stuck)
    since_s = time.monotonic()
    held.label("default")
    free.label("default")
    observer.wait_for_share(other.pid, 1, MOSTLY, limit_s=PATIENCE_S)
    line = service.wait_for("skipped")
    time.sleep(max(since_s + HELD_S - time.monotonic(), 0))
    still_held = file.withholds
    release(stuck)
    observer.wait_for_share(stuck.pid, 1, MOSTLY, limit_s=PATIENCE_S)

    assert still_held
    assert f"pid={stuck.pid} " in line
    assert "stuck in the kernel" in line


def test_a_signal_ends_the_daemon_while_a_process_it_reads_is_stuck(
    file, job, daemon, stick, release, promise
):
    service = daemon(mode="act")
    group = job()
    stuck = with_file(group.start, file, "--mb=8")
    stick(stuck)
    group.label("default")
    service.wait_for("skipped")

    signalled_s = time.monotonic()
    status = service.stop()
    took_s = time.monotonic() - signalled_s
    still_held = file.withholds
    release(stuck)

    assert still_held
    assert status == 0
    promise("stopped, s after the signal", took_s, at_most=PROMPT_S)
    assert any("event=stopped" in line for line in service.log)


def test_a_signal_ends_the_daemons_work_while_a_process_it_moves_is_stuck(
    file, job, daemon, stick, release, promise
):
    service = daemon(mode="act")
    group = job(memory=True)  # so that its figures are read, and not its pages, before it is moved
    stuck = with_file(group.start, file, "--mb=300")
    stuck.tell("bind")
    group.label("default")
    observer.wait_for_share(stuck.pid, 1, 0.05, limit_s=PATIENCE_S)
    stick(stuck)

    signalled_s = time.monotonic()
    service.process.terminate()
    service.wait_for("stopped")
    took_s = time.monotonic() - signalled_s
    ended = ends_within(service.process, PROMPT_S)
    waits_in = set() if ended else calls_of_threads(service.process.pid)
    still_held = file.withholds
    release(stuck)

    print(f"\nsaid so after {took_s:.2f} s, {'and ended' if ended else 'and waits in ' + ' '.join(waits_in)}")
    assert still_held
    promise("said so, s after the signal", took_s, at_most=PROMPT_S)
    assert ended or "move_pages" in waits_in  # the kernel's limit, see below
    assert service.process.wait(timeout=PATIENCE_S) == 0


def calls_of_threads(pid):
    """Give the system calls in which threads of a process are, of those we care about."""
    words = [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/syscall")]
    return {_CALLS[int(word)] for word in words if word.isdigit() and int(word) in _CALLS}


@everywhere
@pytest.mark.parametrize("whole", [False, True])
def test_a_move_waits_for_the_lock_where_a_signal_can_end_it(file, workload, stick, release, whole):
    running = with_file(workload, file, "--mb=1")
    stick(running)

    outcome = act(replace(move_of(running), whole=whole), patience_s=0.5)
    waits_in = calls_of_threads(os.getpid())
    release(running)

    assert outcome.ending is Ending.STUCK
    assert waits_in == {"pread64"}
    assert set(nodes_of_each(running.pid, running.start, running.end)) == {0}


_ASKS = """
import sys, threading
import numpy as np
from numad_py.kernel import placement
pid, address = map(int, sys.argv[1:])
where = np.array([address], np.uint64)
threading.Thread(target=placement.nodes_of, args=(pid, where), daemon=True).start()
threading.Event().wait(1)
print("waiting", flush=True)
threading.Event().wait()
"""


@everywhere
def test_the_kernel_lets_nobody_end_who_waits_for_the_lock_in_move_pages(file, workload, stick, release):
    """This is the kernel's limit, and why the daemon asks for maps first, which a signal can end."""
    running = with_file(workload, file, "--mb=2")
    stick(running)
    words = [sys.executable, "-c", _ASKS, str(running.pid), str(running.start)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout.readline() == "waiting\n"

        asking.kill()
        killed_in_time = ends_within(asking, 2)
        release(running)

        assert not killed_in_time
        assert ends_within(asking, 10)
