# SPDX-License-Identifier: Apache-2.0

"""Real jobs on this machine: cgroups of our own, and processes in them that do as they are told."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup, cpulist, proc_stat
from numad_py.model import ProcessKey
from tests.fake_root import FakeRoot

CPUS = sorted(os.sched_getaffinity(0))
FIRST, REST = CPUS[:1], CPUS[1:]

OBEDIENT = """
import os, sys, threading, time
memory = []
def spin():
    while True:
        pass
for line in sys.stdin:
    word, *words = line.split()
    if word == "fork":
        sys.stdout.flush()
        for _ in range(int(words[0])):
            if os.fork() == 0:
                time.sleep(1000)
    elif word == "storm":
        sys.stdout.flush()
        if os.fork() == 0:
            for _ in range(int(words[0])):
                if os.fork() == 0:
                    time.sleep(1000)
            time.sleep(1000)
    elif word == "threads":
        for _ in range(int(words[0])):
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    elif word == "allocate":
        memory.append(bytearray(os.urandom(1 << 20) * int(words[0])))
    elif word == "spin":
        threading.Thread(target=spin, daemon=True).start()
    elif word == "bind":
        os.sched_setaffinity(0, set(map(int, words)))
    elif word == "real-time":
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print("ok", flush=True)
"""


class Process:
    """A running process that obeys: fork N, storm N, threads N, allocate MB, spin, bind CPU..., real-time."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", OBEDIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.key = ProcessKey(self.pid, proc_stat.read(self.pid).start_ticks)

    def tell(self, *words):
        print(*words, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "ok\n"
        return self

    def end(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()  # which its children still have


class Job:
    """A cgroup of version 2 of our own, and those that were started in it."""

    def __init__(self, directory):
        self.directory = directory
        self.directory.mkdir()
        self._processes = []

    @property
    def cgroup_id(self):
        return cgroup.cgroup_id(self.directory)

    def start(self, *, inside=None):
        """Start a process in the job, or in a cgroup in it."""
        process = Process()
        self._processes.append(process)
        self.adopt(process.pid, inside)
        return process

    def adopt(self, pid, inside=None):
        directory = self.directory / inside if inside else self.directory
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.procs").write_text(f"{pid}\n")

    def masks(self):
        """Give the mask of every thread in the job, once for each."""
        return sorted(
            sorted(os.sched_getaffinity(int(tid)))
            for directory, _, _ in os.walk(self.directory)
            for tid in (Path(directory) / "cgroup.threads").read_text().split()
        )

    def remove(self):
        for process in self._processes:
            process.end()
        with contextlib.suppress(FileNotFoundError):  # removed before
            (self.directory / "cgroup.kill").write_text("1")
        for directory, _, _ in os.walk(self.directory, topdown=False):
            until_s = time.monotonic() + 10
            while Path(directory).exists() and time.monotonic() < until_s:
                with contextlib.suppress(OSError):  # busy until the last thread is gone
                    Path(directory).rmdir()


@pytest.fixture
def new_job():
    """Make jobs; all are gone at the end."""
    mount, made = cgroup.read_mount_point(), []
    if mount is None or os.geteuid() != 0 or not os.access(mount, os.W_OK):
        pytest.skip("needs root and a writable cgroup v2")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")

    def make(below=None):
        directory = below.directory if below else mount
        made.append(Job(directory / f"numad-test-{os.getpid()}-{len(made)}"))
        return made[-1]

    yield make
    for job in reversed(made):
        job.remove()


@pytest.fixture
def real_root(tmp_path_factory):
    """Give a root whose node 0 has our first CPU, and node 1 the others; its processes and cgroups are the real ones."""
    root = tmp_path_factory.mktemp("machine")
    fake = FakeRoot(root)
    shutil.rmtree(root / "proc")
    (root / "proc").symlink_to("/proc")
    (root / "sys/fs").mkdir()
    (root / "sys/fs/cgroup").symlink_to("/sys/fs/cgroup")
    for name, cpus in (("online", CPUS), ("possible", CPUS), ("isolated", [])):
        fake.write(f"sys/devices/system/cpu/{name}", f"{cpulist.render(cpus)}\n")
    for node, cpus in ((0, FIRST), (1, REST)):
        fake.write(f"sys/devices/system/node/node{node}/cpulist", f"{cpulist.render(cpus)}\n")
    return root
