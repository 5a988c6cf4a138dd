# SPDX-License-Identifier: Apache-2.0

"""Nine workloads that a placement policy should know apart, and a tenth, made of the jobs of tests/vm/workloads.py."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
LABEL = "user.numad.policy"
SETTLE_S = 20.0  # numad looks every 5 to 15 s, and acts on the difference of two looks
MB = 320  # numad leaves alone what has 300 MB or less
TO_NODE_0 = ("--allocate-on=1", "--run-on=0")


@dataclass(frozen=True)
class Workload:
    """Jobs, each the words for one process and in a cgroup of its own.

    Counted is ``window_s`` after ``settle_s``; what goes on in circles begins them at once, and is counted in whole ones.

    A job ``is_told`` to begin unless it does by itself. ``groups_differ`` says that several groups of threads use
    different parts of what they share. FILE in the words becomes a file on a disk.
    """

    what: str
    jobs: tuple[tuple[str, ...], ...]
    is_told: bool = True
    groups_differ: bool = False
    settle_s: float = SETTLE_S
    window_s: float = 6.0
    mb: int = MB


_SHARDS = {"is_told": False, "groups_differ": True}

NINE = {
    "late-bound": Workload(
        "a process touches its memory on node 0, then runs on node 1",
        (("late-bound",),),
    ),
    "halves": Workload(
        "a process touches an array on node 0, then a thread on each node writes its half",
        (("halves", "--lockstep"),),
        is_told=False,
        groups_differ=True,
    ),
    "crossed-jobs": Workload(
        "two late-bound jobs, each with its memory on the other's node",
        (("late-bound",), ("late-bound", *TO_NODE_0)),
    ),
    "forked-shards": Workload(
        "a process touches an array on node 0 and forks a worker on each node, which reads its half copy-on-write",
        (("shards", "--lockstep"),),
        **_SHARDS,
    ),
    "wanderer-25-s": Workload(
        "a late-bound process that changes its node every 25 s",
        (("wanderer", "--stay-s=25"),),
        settle_s=2.0,
        window_s=50.0,
    ),
    "shared-shards": Workload(
        "as forked-shards, in shared anonymous memory",
        (("shards", "--lockstep", "--mapping=shared"),),
        **_SHARDS,
    ),
    "file-shards": Workload(
        "a file in the page cache of node 0, mapped by a worker on each node, which reads its half",
        (("shards", "--lockstep", "--mapping=file", "--file=FILE"),),
        **_SHARDS,
    ),
    "wanderer-2-s": Workload(
        "a late-bound process that changes its node every 2 s",
        (("wanderer", "--stay-s=2"),),
        window_s=12.0,
    ),
    "short-lived": Workload(
        "twenty late-bound processes of 32 MiB in one job, one more every 1.5 s, each for 6 s",
        (("short-lived", "--pause-s=1.5", "--live-s=6"),),
        settle_s=0.0,
        window_s=36.0,
        mb=32,
    ),
}

UNBOUND = Workload(
    "a process touches an array on node 0, then two threads, bound to nothing, write a half each",
    (("halves", "--unbound"),),
    is_told=False,
    groups_differ=True,
)


@contextlib.contextmanager
def running(workload: Workload, label: str, file: Path, *more: str) -> Iterator[None]:
    """Let a workload run, its jobs labelled once their memory is there; all of it is gone afterwards."""
    jobs: list[_Job] = []
    try:
        for number, words in enumerate(workload.jobs):
            given = [word.replace("FILE", str(file)) for word in words]
            jobs.append(_Job(number, *given, f"--mb={workload.mb}", *more))
        for job in jobs:
            job.begin(label, told=workload.is_told)
        yield
        ended = [job.process.returncode for job in jobs if job.process.poll() is not None]
        if ended:
            raise RuntimeError(f"a job ended by itself, with status {ended}")
    finally:
        for job in jobs:
            job.end()
        file.unlink(missing_ok=True)


class _Job:
    """A process of tests.vm.workloads in a cgroup, with its memory touched."""

    def __init__(self, number: int, *words: str) -> None:
        self._cgroup = CGROUPS / f"job-{number}"
        self._cgroup.mkdir()
        enter = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(self._cgroup)]
        self.process = subprocess.Popen(
            [*enter, sys.executable, "-m", "tests.vm.workloads", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        if not self.process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"{words} ended with status {self.process.wait()}")

    def begin(self, label: str, *, told: bool) -> None:
        """Label it, and tell it to begin if it has to be told."""
        os.setxattr(self._cgroup, LABEL, label.encode())
        if told:
            assert self.process.stdin is not None
            self.process.stdin.write("bind\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Kill all of it, and remove the cgroup."""
        (self._cgroup / "cgroup.kill").write_text("1")
        self.process.communicate()
        while "populated 1" in (self._cgroup / "cgroup.events").read_text():
            time.sleep(0.05)
        self._cgroup.rmdir()
