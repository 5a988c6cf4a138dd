# SPDX-License-Identifier: Apache-2.0

"""Look closer at one job at a time, for some seconds, where a snapshot cannot tell who uses what.

Problem: who touches which memory cannot be seen from where pages and threads are, once a job runs
on several nodes; seeing it costs more than a look may.
Primitive: a few sources that can watch a job for a while, each of which may be unable to, here or now.
Application: jobs take turns, each for at most ``WATCH_S`` in ``EVERY_S``, the sources in order
until one can; what it costs is kept within its own share of a core and told apart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from numad_py.model import Accesses, Floats, Job, Process, ProcessKey, Topology

WATCH_S: Final = 10.0
EVERY_S: Final = 600.0
CORE_SHARE: Final = 0.1
ELSEWHERE_SHARE: Final = 0.1  # of a job's CPU time on other nodes than its most used: then it runs on several
LEAST_CPU_S: Final = 1.0  # that is to be seen of a job before it is judged


class Source(Protocol):
    """Watches processes. ``problems`` says why nothing, or less, was seen; ``cost_s`` since the last start."""

    @property
    def cost_s(self) -> float:
        """CPU seconds."""
        ...

    @property
    def problems(self) -> Sequence[str]:
        """Sentences."""
        ...

    def start(self, processes: Sequence[Process]) -> bool:
        """Begin to watch; False where that cannot be."""
        ...

    def collect(self) -> Mapping[ProcessKey, Accesses]:
        """Give what was seen since then."""
        ...

    def stop(self) -> None:
        """End watching, and leave nothing behind."""
        ...


@dataclass(frozen=True)
class Found:
    """What came of a turn; empty while a job is watched, and where there is nothing to watch."""

    accesses: Mapping[ProcessKey, Accesses] = field(default_factory=dict)
    cost_s: float = 0.0


@dataclass(frozen=True)
class _Watch:
    """The job that is watched, by whom, and until when."""

    job: int
    source: Source
    until_s: float


class Investigations:
    """Takes jobs in turn. Ask it to ``turn`` at every look, and to ``stop`` at the end."""

    def __init__(self, topology: Topology, sources: Sequence[Source]) -> None:
        self._topology = topology
        self._sources = tuple(sources)
        self._watch: _Watch | None = None
        self._next_s: dict[int, float] = {}  # by cgroup id: when it may be watched again
        self._cpu_s: dict[int, Floats] = {}  # by cgroup id: by node, since it was watched
        self._problems = Counter[str]()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing, or less, was seen, in the order of first appearance."""
        return tuple(self._problems)

    def turn(self, now_s: float, jobs: Sequence[Job]) -> Found:
        """Begin to watch a job, or end and give what was seen of it."""
        self._count(jobs)
        if self._watch is None:
            self._begin(now_s, jobs)
            return Found()
        watch = self._watch
        over_budget = watch.source.cost_s > CORE_SHARE * WATCH_S
        if now_s < watch.until_s and not over_budget and watch.job in self._cpu_s:
            return Found()
        found = Found(watch.source.collect(), watch.source.cost_s)
        self.stop()
        return found

    def stop(self) -> None:
        """End what is under way."""
        if self._watch is not None:
            self._watch.source.stop()
            self._problems.update(self._watch.source.problems)
            self._watch = None

    def _count(self, jobs: Sequence[Job]) -> None:
        nothing = np.zeros(len(self._topology.nodes))
        self._cpu_s = {
            job.cgroup_id: self._cpu_s.get(job.cgroup_id, nothing) + self._job_cpu_s(job) for job in jobs
        }
        self._next_s = {job: next_s for job, next_s in self._next_s.items() if job in self._cpu_s}

    def _job_cpu_s(self, job: Job) -> Floats:
        table = self._topology.index_of_cpu
        threads = [process.threads for process in job.processes]
        cpu = np.concatenate([np.zeros(0, np.int64), *(each.cpu for each in threads)])
        cpu_s = np.concatenate([np.zeros(0), *(each.cpu_s for each in threads)])
        index = table[np.minimum(cpu, len(table) - 1)]
        nodes = len(self._topology.nodes)
        return np.bincount(index[index >= 0], cpu_s[index >= 0], nodes).astype(np.float64)

    def _begin(self, now_s: float, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if now_s < self._next_s.get(job.cgroup_id, 0.0) or not self._runs_on_several(job.cgroup_id):
                continue
            self._next_s[job.cgroup_id] = now_s + EVERY_S
            self._cpu_s[job.cgroup_id][:] = 0.0
            for source in self._sources:
                if source.start(job.processes):
                    self._watch = _Watch(job.cgroup_id, source, now_s + WATCH_S)
                    return
                self._problems.update(source.problems)

    def _runs_on_several(self, job: int) -> bool:
        cpu_s = self._cpu_s[job]
        used_s = cpu_s.sum()
        return bool(used_s >= LEAST_CPU_S and used_s - cpu_s.max() > ELSEWHERE_SHARE * used_s)
