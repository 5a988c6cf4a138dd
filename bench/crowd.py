# SPDX-License-Identifier: Apache-2.0

"""Labelled processes of 16 threads and 300 regions: what the daemon is measured beside.

Most sleep, some use a hundredth of a core, and any of them becomes late-bound when told to: it touches 64 MB,
goes on to run on the CPUs of the next node, where there is one, and uses a tenth of a core there.
"""

import contextlib
import mmap
import os
import signal
import threading
import time
from dataclasses import dataclass

from numad_py.kernel import cgroup, node_sysfs

THREADS = 16
REGIONS = 300
REGION_BYTES = 32 << 10
LATE_BYTES = 64 << 20
BUSY_S, LATE_S = 0.01, 0.1  # of CPU time, between rests of a second


@dataclass
class Member:
    """One of them; ``later_cpus`` are those on which it runs from ``since_s`` on, when it became late-bound."""

    pid: int
    busy: bool
    later_cpus: set[int]
    told: int  # the end of a pipe
    since_s: float = float("inf")

    def become_late_bound(self):
        """Make it so; returns when it is."""
        os.kill(self.pid, signal.SIGUSR1)
        self.since_s = float(os.read(self.told, 32))


@contextlib.contextmanager
def labelled(top, count, jobs, busy):
    """Start them, spread over labelled cgroups below ``top``."""
    nodes = [node for node in node_sysfs.read_topology().nodes if node.cpus]
    groups = [top / f"job-{number}" for number in range(jobs)]
    for group in groups:
        group.mkdir(parents=True)
        os.setxattr(group, cgroup.LABEL, b"default")
    members = []
    try:
        for number in range(count):
            members.append(_started(number, number < busy, nodes))
            (groups[number % jobs] / "cgroup.procs").write_text(str(members[-1].pid))
        yield members
    finally:
        for member in members:
            os.kill(member.pid, signal.SIGKILL)
            os.waitpid(member.pid, 0)
        time.sleep(0.5)  # the kernel lets go of a cgroup a moment after its last process
        for group in [*groups, top]:
            group.rmdir()


def _started(number, busy, nodes):
    """Fork one; they take turns on the nodes."""
    cpus, later_cpus = (set(nodes[at % len(nodes)].cpus) for at in (number, number + 1))
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        _live(busy, cpus, later_cpus, tell)
    os.close(tell)
    return Member(pid, busy, later_cpus, told)


def _live(busy, cpus, later_cpus, tell):
    """Be one of them."""
    os.sched_setaffinity(0, cpus)
    usual = mmap.PROT_READ | mmap.PROT_WRITE
    # Every second one is executable: neighbours that are alike would be one region.
    kept = [_touched(REGION_BYTES, usual | mmap.PROT_EXEC * (number % 2)) for number in range(REGIONS)]
    for _ in range(THREADS - 1):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    while not signal.sigtimedwait([signal.SIGUSR1], 1.0 if busy else 3600.0):
        _use_cpu(BUSY_S if busy else 0.0)
    kept.append(_touched(LATE_BYTES, usual))
    os.sched_setaffinity(0, later_cpus)
    os.write(tell, b"%f" % time.monotonic())
    while True:
        _use_cpu(LATE_S)
        time.sleep(1.0)


def _touched(length, prot):
    memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=prot)
    memory[::4096] = b"1" * (length // 4096)
    return memory


def _use_cpu(seconds):
    began_s = time.thread_time()
    while time.thread_time() - began_s < seconds:
        pass
