# SPDX-License-Identifier: Apache-2.0

"""How long jobs take for the work that was recorded of them.

Problem: a trace tells CPU seconds, and a job whose memory is near needs fewer of them for the same work.

Primitive: recorded CPU seconds are work: the time it takes on a core of its own with all memory at home and idle. Under
another policy each takes longer by how late memory answers, and by how many threads share the cores of its node. A
process takes as long as its busiest thread, and sleeps as long as it did; a job whose ranks wait for each other takes as
long as its slowest rank, and any other as long as its processes do on average of their CPU time.

Application: every job has a clock of its own, so that one that is faster ends sooner; what runs beside it is what ran
beside that part of its work when it was recorded.

Units: seconds; ``slower`` is how many times as long.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from numad_py.model import Snapshot
from numad_py.topology import Floats, Ints, Topology

Value = TypeVar("Value")

# What a second thread on a core adds to the work of the first: what numad takes a sibling for (its option -t).
SIBLING_SHARE: Final = 0.2


def sharing(cpu_s: Floats, elapsed_s: float, on: Topology) -> Floats:
    """Say by node how many times as long work takes since threads share cores.

    As many threads run at once as there are CPU seconds in a second; first each has a core, then siblings fill, then
    CPUs are shared in time.
    """
    running = cpu_s.sum(axis=0) / elapsed_s if elapsed_s else np.zeros(len(on.nodes))
    return shared(running, on.cores_by_node, on.cpus_by_node)


def shared(running: Floats | float, cores: Ints, cpus: Ints) -> Floats:
    """Say how many times as long work takes where so many threads run at once on so many cores and CPUs."""
    capacity = np.minimum(running, cores) + SIBLING_SHARE * np.clip(running - cores, 0, cpus - cores)
    slower: Floats = np.where(running > cores, running / np.maximum(capacity, 1e-9), 1.0)
    return slower


@dataclass
class _Clock:
    """One job's recorded time, and what it would take for the work in it."""

    path: str
    took_s: float = 0.0


def by_path(found: Mapping[int, tuple[str, Value]]) -> dict[str, Value]:
    """Name by path what was found by cgroup; a cgroup made anew at the same path is another job."""
    paths = Counter(path for path, _ in found.values())
    return {
        path if paths[path] == 1 else f"{path} (cgroup {cgroup_id})": value
        for cgroup_id, (path, value) in found.items()
    }


class JobTimes:
    """Follows the clocks of all jobs; ``worst_step`` is how many times as long as recorded any job's worst look took."""

    def __init__(self) -> None:
        self._clocks: dict[int, _Clock] = {}
        self.worst_step = 1.0

    def add(self, snapshot: Snapshot, slower: Floats, blocked_s: Floats, elapsed_s: float) -> list[float]:
        """Let all jobs do the work of one look, and say how long each took; what is given is by process."""
        cpu_s = snapshot.cpu_s.sum(axis=1)
        busy_s = np.minimum(snapshot.busiest_s, elapsed_s)
        took_s = elapsed_s + busy_s * (slower - 1) + blocked_s
        job = np.repeat(np.arange(len(snapshot.jobs)), [len(each.processes) for each in snapshot.jobs])
        by_job = [job_s if job_s > 0 else elapsed_s for job_s in self._by_job(snapshot, job, cpu_s, took_s)]
        for each, job_s in zip(snapshot.jobs, by_job, strict=True):
            self._clocks.setdefault(each.cgroup_id, _Clock(each.path)).took_s += job_s
            self.worst_step = max(self.worst_step, job_s / elapsed_s if elapsed_s else 1.0)
        return by_job

    def _by_job(self, snapshot: Snapshot, job: Ints, cpu_s: Floats, took_s: Floats) -> list[float]:
        """Give 0 for jobs that slept."""
        jobs = len(snapshot.jobs)
        ran_s = np.bincount(job, cpu_s, jobs)
        mean_s = np.bincount(job, cpu_s * took_s, jobs) / np.maximum(ran_s, 1e-12)
        slowest_s = np.zeros(jobs)
        np.maximum.at(slowest_s, job, np.where(cpu_s > 0, took_s, 0))
        barrier = np.array([each.barrier for each in snapshot.jobs], bool)
        return list(np.where(barrier, slowest_s, mean_s).tolist())

    @property
    def took_s(self) -> dict[str, float]:
        """Give times by path."""
        return by_path({cgroup_id: (clock.path, clock.took_s) for cgroup_id, clock in self._clocks.items()})
