# SPDX-License-Identifier: Apache-2.0

"""Count, for each job, its memory accesses and what else the counters know.

Problem: a job's processes and threads come and go, and a cgroup is counted on
each CPU by itself, so that following everything costs descriptors.

Primitive: the kernel counts a cgroup, with all below it, on one CPU; or a thread
and all threads that it begins. Several events are read with one call.

Application: a job is counted by its cgroup where the kernel allows that and
enough descriptors are left, else process by process, else not at all, which is said.
"""

import contextlib
import errno
import os
import resource
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from numad_py.kernel import perf_refusals
from numad_py.kernel.perf_events import PAGE_FAULTS
from numad_py.kernel.perf_groups import Group, Target
from numad_py.kernel.perf_scaling import VALUES, scaled
from numad_py.model import Job, JobCounters, ProcessKey
from numad_py.sense import countable, roofline
from numad_py.topology import Topology

LEFT_TO_OTHERS: Final = 256  # descriptors

Counts = Mapping[str, float]
Groups = tuple[Group, ...]


@dataclass
class _Counted:
    """A job under count since the last look: its groups by process, or under None those of its cgroup."""

    since_s: float
    groups: dict[ProcessKey | None, Groups] = field(default_factory=dict)

    @property
    def by_cgroup(self) -> bool:
        return None in self.groups


class Counters:
    """Counts labelled jobs from look to look.

    ``verified_events`` names the row of events that calibration verified, ``peak_bytes_per_s`` what each
    node's memory gives at most, by node id. ``problems`` says what cannot be counted, and the remedy;
    ``descriptors`` how many are open.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        mount: Path,
        root: Path = Path("/"),
        verified_events: str = "",
        peak_bytes_per_s: Mapping[int, float] | None = None,
    ) -> None:
        self._topology = topology
        self._mount = mount
        self._root = root
        self._peak_bytes_per_s = peak_bytes_per_s or {}
        self._cpus = [cpu for node in topology.nodes for cpu in node.cpus]
        self._found = countable.find(root)
        self._verified = self._found.row is not None and self._found.row.name == verified_events
        no_cgroups = self._why_no_cgroups()
        self._ways = [self._follow] if no_cgroups else [self._open_cgroup, self._follow]
        self._lasting = (*self._found.problems, *no_cgroups)
        self._uncounted: dict[int, str] = {}
        self._jobs: dict[int, _Counted] = {}
        self._each = sum(len(events) for events in self._found.groups)
        self.descriptors = 0

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be counted, each once: of this machine first, then of jobs."""
        return (*self._lasting, *self._uncounted.values())

    def look(self, jobs: Collection[Job]) -> dict[int, JobCounters]:
        """Give, by cgroup id, what was counted since the last look; nothing for jobs first seen in this one."""
        if not self._found.groups:
            return {}
        self._forget({job.cgroup_id for job in jobs})
        now_s = time.monotonic()
        known = {job.path: self._jobs[job.cgroup_id] for job in jobs if job.cgroup_id in self._jobs}
        totals = self._totals(known)
        own = _without_nested(totals, {path for path in totals if known[path].by_cgroup})
        told = {
            job.cgroup_id: roofline.place(
                self._found.row,
                own[job.path],
                now_s - known[job.path].since_s,
                peak_bytes_per_s=roofline.peak(job, self._topology, self._peak_bytes_per_s),
                verified=self._verified,
            )
            for job in jobs
            if job.path in totals
        }
        for job in jobs:
            if job.path in known and job.path not in totals:
                self._drop(job.cgroup_id)  # to be counted anew
            self._keep_up(job, now_s)
        return told

    def close(self) -> None:
        """Stop counting."""
        self._forget(set())

    def _why_no_cgroups(self) -> tuple[str, ...]:
        mount = os.open(self._mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            Group((PAGE_FAULTS,), [Target(cpu=self._cpus[0], cgroup=mount)]).close()
        except OSError as error:
            why = perf_refusals.why_no_cgroup(error, self._root)
            return (f"cgroups: {why}; jobs are counted process by process instead",)
        finally:
            os.close(mount)
        return ()

    def _totals(self, known: Mapping[str, _Counted]) -> dict[str, Counts]:
        """Give what was counted of each job, but for those that can no longer be read."""
        totals = {}
        for path, counted in known.items():
            with contextlib.suppress(OSError):
                totals[path] = self._total(counted)
        return totals

    def _total(self, counted: _Counted) -> Counts:
        """Give what was counted of a job, by event; where its cgroup is counted, nested jobs too."""
        totals: dict[str, float] = {}
        for index, events in enumerate(self._found.groups):
            none = np.zeros((0, VALUES + len(events)), np.int64)
            changes = [groups[index].change() for groups in counted.groups.values()]
            sums = scaled(np.concatenate([none, *changes]))
            if sums is not None:
                totals |= zip((event.name for event in events), sums.tolist(), strict=True)
        return totals

    def _keep_up(self, job: Job, now_s: float) -> None:
        """Count a job that is new, and the processes that are new in one that is counted by them."""
        counted = self._jobs.setdefault(job.cgroup_id, _Counted(now_s))
        counted.since_s = now_s
        if counted.by_cgroup:
            return
        why = ""
        for way in self._ways[-1:] if counted.groups else self._ways:
            try:
                way(job, counted)
            except OSError as error:
                why = perf_refusals.why(error, self._root)
            else:
                self._uncounted.pop(job.cgroup_id, None)
                return
        self._drop(job.cgroup_id)
        takes = f"by its cgroup it takes {self._each} descriptors on each of {len(self._cpus)} CPUs"
        self._uncounted[job.cgroup_id] = f"{job.path} is not counted: {why} ({takes})"

    def _open_cgroup(self, job: Job, counted: _Counted) -> None:
        directory = os.open(self._mount / job.path[1:], os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.fstat(directory).st_ino != job.cgroup_id:
                raise FileNotFoundError(errno.ENOENT, "another cgroup has its path by now")
            counted.groups[None] = self._open([Target(cpu=cpu, cgroup=directory) for cpu in self._cpus])
        finally:
            os.close(directory)

    def _follow(self, job: Job, counted: _Counted) -> None:
        alive = [process.key for process in job.processes]
        for key in counted.groups.keys() - set(alive):
            self._close(counted.groups.pop(key))
        for key in alive:
            if key not in counted.groups:
                counted.groups[key] = self._open([Target(pid=tid) for tid in self._threads(key.pid)])

    def _threads(self, pid: int) -> list[int]:
        try:
            return [int(task.name) for task in (self._root / "proc" / str(pid) / "task").iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def _open(self, targets: list[Target]) -> Groups:
        """Open all groups for these targets, or none; raises OSError."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self.descriptors + len(targets) * self._each > most - LEFT_TO_OTHERS:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        groups: list[Group] = []
        try:
            for events in self._found.groups:
                groups.append(Group(events, targets))  # noqa: PERF401 - those before one that fails are closed
        except OSError:
            for group in groups:
                group.close()
            raise
        self.descriptors += sum(map(len, groups))
        return tuple(groups)

    def _forget(self, kept: Collection[int]) -> None:
        """Stop counting the jobs that are gone."""
        for gone in self._jobs.keys() - kept:
            self._drop(gone)
        self._uncounted = {job: why for job, why in self._uncounted.items() if job in kept}

    def _drop(self, job: int) -> None:
        for groups in self._jobs.pop(job).groups.values():
            self._close(groups)

    def _close(self, groups: Groups) -> None:
        self.descriptors -= sum(map(len, groups))
        for group in groups:
            group.close()


def _without_nested(totals: Mapping[str, Counts], by_cgroup: Collection[str]) -> dict[str, Counts]:
    """Take from each job that its cgroup counts what belongs to the jobs nested in it."""
    own = dict(totals)
    for path, counts in totals.items():
        job = next((above for above in map(str, PurePosixPath(path).parents) if above in totals), None)
        if job is not None and job in by_cgroup:
            own[job] = {name: max(count - counts.get(name, 0.0), 0.0) for name, count in own[job].items()}
    return own
