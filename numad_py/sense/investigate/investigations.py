# SPDX-License-Identifier: Apache-2.0

"""Look closer at one job at a time, for some seconds, where a snapshot cannot tell who uses what.

Problem: who touches which memory cannot be seen from where pages and threads are, once a job runs
on several nodes; seeing it costs more than a look may.
Primitive: a few sources that can watch a job for a while, each of which may be unable to, here or now.
Application: jobs take turns, each for at most ``WATCH_S`` in ``EVERY_S`` by a source, the first that can and sees
anything, and no longer than it tells anything new; what that costs is kept within a share of a core of its own, and
told apart. Of a job that mostly shares its memory, those that see what is shared are asked first.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from numad_py.kernel import Malformed
from numad_py.model import Accesses, Job, Process, ProcessKey
from numad_py.topology import Floats, Topology

WATCH_S: Final = 10.0
EVERY_S: Final = 600.0
CORE_SHARE: Final = 0.1
ELSEWHERE_SHARE: Final = 0.1  # of a job's CPU time on other nodes than its most used: then it runs on several
MOST_PROBLEMS: Final = 20
LEAST_CPU_S: Final = 1.0  # that is to be seen of a job before it is judged
MOSTLY_SHARED: Final = 0.5  # of its resident bytes, from which on a job is one that shares


class Source(Protocol):
    """Watches processes. ``problems`` says why nothing, or less, was seen; ``cost_s`` since the last start.

    ``sees_shared`` says that it tells which of several processes uses which part of what they share.
    """

    @property
    def sees_shared(self) -> bool: ...

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

    def is_settled(self) -> bool:
        """Whether watching on would tell no more; may take as long as ``collect``."""
        ...

    def collect(self) -> Mapping[ProcessKey, Accesses]:
        """Give what was seen since then."""
        ...

    def stop(self) -> None:
        """End watching, and leave nothing behind."""
        ...


@dataclass(frozen=True)
class Found:
    """What came of an investigation; empty while one is under way, and where there is nothing to find out."""

    accesses: Mapping[ProcessKey, Accesses] = field(default_factory=dict)
    cost_s: float = 0.0


NOTHING: Final = Found()


class Investigations:
    """Takes jobs in turn, in a thread of its own: ask it to ``turn`` at every look, and to ``stop`` at the end."""

    def __init__(self, topology: Topology, sources: Sequence[Source], *, watch_s: float = WATCH_S) -> None:
        self._topology = topology
        self._sources = tuple(sources)
        self._watch_s = watch_s
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, "numad-investigator")
        self.watching: Future[Found] | None = None
        self._next_s: dict[int, float] = {}  # by cgroup id: when it may be watched again
        self._cpu_s: dict[int, Floats] = {}  # by cgroup id: by node, half as much after EVERY_S
        self._counted_s = float("-inf")
        self._problems: dict[str, None] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing, or less, was seen, in the order of first appearance."""
        return tuple(self._problems)

    def turn(self, now_s: float, jobs: Sequence[Job]) -> Found:
        """Begin to watch a job if one is due, or give what was seen of the last."""
        self._count(now_s, jobs)
        if self.watching is None:
            due = [job for job in jobs if self._is_due(job, now_s)]
            if due:
                job = min(due, key=lambda job: self._next_s.get(job.cgroup_id, 0.0))
                self._next_s[job.cgroup_id] = now_s + EVERY_S
                self._cpu_s[job.cgroup_id][:] = 0.0
                self.watching = self._thread.submit(self._watch, job.processes)
            return NOTHING
        if not self.watching.done():
            return NOTHING
        watching, self.watching = self.watching, None
        return watching.result()

    def stop(self) -> None:
        """End what is under way; returns when nothing of it is left behind."""
        self._stopping.set()
        self._thread.shutdown()

    def _watch(self, processes: Sequence[Process]) -> Found:
        """Watch, in the thread, by the first source that can, and sees anything."""
        shares, cost_s = _mostly_shared(processes), 0.0
        for source in sorted(self._sources, key=lambda source: shares and not source.sees_shared):
            try:
                if source.start(processes):
                    self._wait(source)
                    accesses = {} if self._stopping.is_set() else source.collect()  # which may take seconds
                    cost_s += source.cost_s
                    if accesses or self._stopping.is_set():
                        return Found(accesses, cost_s)
            except (OSError, Malformed) as error:  # of what is gone, or changes: the next job may do better
                self._note(f"an investigation ended early: {error}")
            finally:
                source.stop()
                self._note(*source.problems)
        return Found(cost_s=cost_s)

    def _note(self, *problems: str) -> None:
        """Remember the last few problems: they may name processes, of which there is no end."""
        self._problems.update(dict.fromkeys(problems))
        for oldest in tuple(self._problems)[:-MOST_PROBLEMS]:
            del self._problems[oldest]

    def _wait(self, source: Source) -> None:
        until_s = time.monotonic() + self._watch_s
        while (left_s := until_s - time.monotonic()) > 0 and source.cost_s <= CORE_SHARE * WATCH_S:
            if self._stopping.wait(min(left_s, 0.5)) or source.is_settled():
                return

    def _count(self, now_s: float, jobs: Sequence[Job]) -> None:
        nothing = np.zeros(len(self._topology.nodes))
        kept_share = 0.5 ** ((now_s - self._counted_s) / EVERY_S)
        self._counted_s = now_s
        self._cpu_s = {
            job.cgroup_id: self._cpu_s.get(job.cgroup_id, nothing) * kept_share + self._job_cpu_s(job)
            for job in jobs
        }
        self._next_s = {job: next_s for job, next_s in self._next_s.items() if job in self._cpu_s}

    def _job_cpu_s(self, job: Job) -> Floats:
        ran = [process.threads for process in job.processes if len(process.threads.cpu)]
        if not ran:
            return np.zeros(len(self._topology.nodes))
        cpu, cpu_s = np.concatenate([each.cpu for each in ran]), np.concatenate([each.cpu_s for each in ran])
        return self._topology.cpu_s_by_node(cpu, cpu_s)

    def _is_due(self, job: Job, now_s: float) -> bool:
        """Say whether a job runs on several nodes, and was not watched for long enough.

        Not in a look that tells of no threads, as most do where there is much to look at: by threads it is sampled.
        """
        cpu_s = self._cpu_s[job.cgroup_id]
        used_s = cpu_s.sum()
        on_several = used_s >= LEAST_CPU_S and used_s - cpu_s.max() > ELSEWHERE_SHARE * used_s
        told = any(len(process.threads.tid) for process in job.processes)
        return bool(on_several and told and now_s >= self._next_s.get(job.cgroup_id, 0.0))


def _mostly_shared(processes: Sequence[Process]) -> bool:
    bytes_ = [
        (each.regions.resident_bytes.sum(), each.regions.resident_bytes[each.regions.shared].sum())
        for each in processes
    ]
    every, shared = np.sum(bytes_, axis=0) if bytes_ else (0, 0)
    return bool(shared > MOSTLY_SHARED * every)
