# SPDX-License-Identifier: Apache-2.0

"""What happens on a busy server, by the minute: jobs that come and go, misbehave, and are labelled on and off.

Every other job binds its processes, late, and has memory to bring home; the others bind none, and fork: their tasks
can be moved. Every process is a fork of this one. What mask each should have in the end is known, since nobody but this module,
and the daemon under test, changes one.
"""

import contextlib
import mmap
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from numad_py.kernel import cgroup, node_sysfs

MOST_JOBS, MOST_MEMBERS = 12, 40
STORM = 300  # children, as fast as they can be forked
FORKED = 5
BUSY_S, IDLE_S = 0.1, 2.0  # between rounds, at most
NAMES = ("job", "a b", "job.scope", "[x]", "(y) 1 2", "\N{SNOWMAN}")
COMMS = (b"python3", b"a b) R 1 (c", b"\x1b]0;x\x07", b"\xff\xfe", b"-", b"x\nUid:\t0")
ODD_LABELS = (b"hold", b"off", b"nonsense", b"\xff", b"a\nb")
ODD_SHARE = 0.3


@dataclass
class Member:
    """One process, and the masks that it may have in the end."""

    pid: int
    job: str
    masks: list[set[int]]


@dataclass
class Churn:
    """The jobs below one cgroup, and the steps that change them; the same seed takes the same steps."""

    top: Path
    dice: random.Random
    members: list[Member] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self.everywhere = os.sched_getaffinity(0)
        self.nodes = [set(node.cpus) & self.everywhere for node in node_sysfs.read_topology().nodes]
        self.nodes = [cpus for cpus in self.nodes if cpus]
        self.made = 0
        self.top.mkdir()

    def step(self):
        """Do one of the things that happen."""
        steps = {
            self.begin_job: 6,
            self.add_member: 14,
            self.kill_member: 8,
            self.end_job: 3,
            self.label: 8,
            self.storm: 1,
            self.fork_children: 4,
            self.execute: 3,
            self.stop_and_go: 2,
            self.rebind: 4,
            self.cgroup_gone_under_it: 1,
        }
        (step,) = self.dice.choices(list(steps), list(steps.values()))
        self.counts[step.__name__] = self.counts.get(step.__name__, 0) + 1
        with contextlib.suppress(ProcessLookupError):  # whom it chose has ended by itself
            step()

    def begin_job(self):
        """Make a labelled cgroup with some processes."""
        if len(self.jobs) >= MOST_JOBS:
            return
        self.made += 1
        name = f"{self.dice.choice(NAMES)}-{self.made}"
        (self.top / name).mkdir()
        self.jobs.append(name)
        self.label(name)
        for _ in range(self.dice.randint(1, 4)):
            self.add_member(name)

    def add_member(self, job=None):
        """Start a process in a job: bound late to one node, or bound to none."""
        if not self.jobs or len(self.members) >= MOST_MEMBERS:
            return
        job = job or self.dice.choice(self.jobs)
        born, bound = self.dice.choice(self.nodes), self.dice.choice(self.nodes) if binds(job) else None
        mb, comm, seed = self.dice.choice((1, 4, 16)), self.dice.choice(COMMS), self.dice.random()
        pid = os.fork()
        if pid == 0:
            live(self.top / job, born, bound or self.everywhere, mb, comm, seed, BUSY_S if bound else IDLE_S)
        self.members.append(Member(pid, job, [bound or self.everywhere]))

    def kill_member(self):
        """End one process without a warning."""
        if self.members:
            self._end(self.dice.choice(self.members))

    def end_job(self):
        """End all of a job and remove its cgroup."""
        if self.jobs:
            self._remove(self.dice.choice(self.jobs))

    def label(self, job=None):
        """Give a job a label, a good one or not, or take it away."""
        if not self.jobs:
            return
        job = job or self.dice.choice(self.jobs)
        path, fitting = self.top / job, b"default" if binds(job) else b"back-and-forth"
        if self.dice.random() < 0.1:
            with contextlib.suppress(OSError):  # it has none
                os.removexattr(path, cgroup.LABEL)
        else:
            odd = self.dice.random() < ODD_SHARE
            os.setxattr(path, cgroup.LABEL, self.dice.choice(ODD_LABELS) if odd else fitting)

    def storm(self):
        """Fork hundreds of children that end at once, in a labelled job."""
        self._tell(signal.SIGUSR1)

    def fork_children(self):
        """Let a process fork some that stay until it ends; theirs is its mask."""
        self._tell(signal.SIGUSR2)

    def execute(self):
        """Let a process become another program, with new memory."""
        self._tell(signal.SIGHUP)

    def stop_and_go(self):
        """Stop a process for a while: what it holds stays held."""
        if self.members:
            member = self.dice.choice(self.members)
            os.kill(member.pid, signal.SIGSTOP)
            time.sleep(self.dice.random() * 2)
            os.kill(member.pid, signal.SIGCONT)

    def rebind(self):
        """Bind a process elsewhere, as its owner might; who cannot tell ours from theirs may give back either."""
        # In the other jobs a mask like ours would keep all others from being moved.
        if bound := [member for member in self.members if binds(member.job)]:
            member, cpus = self.dice.choice(bound), self.dice.choice(self.nodes)
            os.sched_setaffinity(member.pid, cpus)
            member.masks.append(cpus)

    def cgroup_gone_under_it(self):
        """Move a process out of its job, and remove the cgroup when that was the last one."""
        if self.members:
            member = self.dice.choice(self.members)
            (self.top / "cgroup.procs").write_text(str(member.pid))
            member.job = ""

    def strayed(self):
        """Give, in words, every process whose mask is none of those that it may have."""
        for member in self.members:
            with contextlib.suppress(ProcessLookupError):
                for pid in [member.pid, *_children(member.pid)]:
                    mask = os.sched_getaffinity(pid)
                    if mask not in [*member.masks, self.everywhere]:
                        yield f"{pid} of {member.job!r} has {sorted(mask)}, and should have {member.masks}"
                    if len(member.masks) == 1 and mask != member.masks[0]:
                        yield f"{pid} of {member.job!r} has {sorted(mask)}, and should have {sorted(member.masks[0])}"

    def end_all(self):
        """End every job and every process."""
        for job in list(self.jobs):
            self._remove(job)
        for member in list(self.members):
            self._end(member)

    def close(self):
        """End everything and leave no cgroup."""
        self.end_all()
        _empty(self.top)

    def _tell(self, number):
        if forking := [member for member in self.members if not binds(member.job)]:
            os.kill(self.dice.choice(forking).pid, number)

    def _end(self, member):
        self.members.remove(member)
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
        os.waitpid(member.pid, 0)

    def _remove(self, job):
        self.jobs.remove(job)
        for member in [each for each in self.members if each.job == job]:
            self._end(member)
        _empty(self.top / job)


def binds(job):
    """Say whether that job binds its processes; one that left its job is taken for one that does."""
    return not job or int(job.rpartition("-")[2]) % 2 == 0


def _children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _empty(path):
    """Kill what is left in a cgroup, and remove it when the kernel has let go of them."""
    (path / "cgroup.kill").write_text("1")
    until_s = time.monotonic() + 30
    while "populated 0" not in (path / "cgroup.events").read_text():
        if time.monotonic() > until_s:
            raise TimeoutError(f"{path} did not empty")
        time.sleep(0.02)
    path.rmdir()


def live(job, born, bound, mb, comm, seed, rest_s):
    """Be a process of a job: allocate on one node, run on another, and do as signals tell. Does not return."""
    try:
        os.setpgid(0, 0)
        os.sched_setaffinity(0, born)
        (job / "cgroup.procs").write_text("0")
        Path("/proc/self/comm").write_bytes(comm)
        memory = mmap.mmap(-1, mb << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        _touch(memory)
        signal.signal(signal.SIGUSR1, lambda *_: _fork(STORM, stay=False))
        signal.signal(signal.SIGUSR2, lambda *_: _fork(FORKED, stay=True))
        signal.signal(signal.SIGHUP, lambda *_: os.execvp("sleep", ["sleep", "1000"]))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.sched_setaffinity(0, bound)
        dice = random.Random(seed)
        while os.getppid() != 1:
            _touch(memory)
            time.sleep(dice.random() * rest_s)
    finally:
        os._exit(0)


def _touch(memory):
    memory[:: mmap.PAGESIZE] = b"1" * (len(memory) // mmap.PAGESIZE)


def _fork(count, *, stay):
    parent = os.getpid()
    for _ in range(count):
        if os.fork() == 0:
            while stay and os.getppid() == parent:
                time.sleep(1)
            os._exit(0)
