# SPDX-License-Identifier: Apache-2.0

"""Look at the live machine: its nodes, the labelled jobs, where they run and where their pages are.

Problem: numa_maps tells where pages are, but walks every page of a process
under its mmap lock.
Primitive: memory.numa_stat gives a whole job's bytes by node in one small read.
Application: a process's numa_maps is read again only when its job's figures
moved; where those cannot be trusted, when the process ran or its memory grew or
shrank; and when what is known is a minute old.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from numad_py.kernel import Malformed, cgroup, hotplug, maps, node_sysfs, numa_maps, proc_stat, proc_status
from numad_py.model import (
    Job,
    JobMemory,
    Process,
    ProcessKey,
    Regions,
    Skipped,
    Snapshot,
    Threads,
    Topology,
)
from numad_py.roles import Sensor
from numad_py.sense.cpu_time import CpuTime
from numad_py.workers import Unfinished, Workers

OLDEST_PLACEMENT_S = 60.0
UNCHANGED_SHARE = 0.01
TRUSTED_SHARE = 0.20  # of RssAnon, by which memory.numa_stat may differ and still be believed


@dataclass(frozen=True, eq=False)
class _Placement:
    """Where a process's pages were, when that was read, what its job was charged then, and its RssAnon."""

    regions: Regions
    read_s: float
    memory: JobMemory | None
    rss_anon_bytes: int


@dataclass(frozen=True, eq=False)
class _Seen:
    """A process as its small files tell it, before its pages are looked at."""

    key: ProcessKey
    comm: str
    status: proc_status.Status
    threads: Threads


class LiveSensor(Sensor):
    """Reads the labelled jobs of this machine.

    Reading another user's numa_maps needs CAP_SYS_PTRACE; processes that may
    not be read are named in ``Snapshot.skipped``. After a look ``ignored_labels``
    tells which labels do not count and why, and ``took_s`` how long it took.
    Where nodes or CPUs came or went, the topology is read anew, and so are all placements.
    """

    def __init__(self, topology: Topology, workers: Workers, *, mount: Path, root: Path = Path("/")) -> None:
        self._topology = topology
        self._workers = workers
        self._mount = mount
        self._root = root
        self._present = hotplug.present(root)
        self._cpu_time = CpuTime(root)
        self._placements: dict[ProcessKey, _Placement] = {}
        self.ignored_labels: dict[str, str] = {}
        self.took_s = 0.0

    def look(self) -> Snapshot:
        if (present := hotplug.present(self._root)) != self._present:
            self._renew(present)
        try:
            return self._look()
        except FileNotFoundError:  # a node went off line since; the lists say so before its files are gone
            self._renew(hotplug.present(self._root))
            return self._look()

    def _renew(self, present: tuple[str, ...]) -> None:
        self._topology = node_sysfs.read_topology(self._root, self._topology.page_bytes)
        self._present = present
        self._placements.clear()  # their columns are in the order of the nodes that were

    def _look(self) -> Snapshot:
        now_s = time.monotonic()
        labelled = cgroup.labels(self._mount)
        self.ignored_labels = {ignored.path: ignored.why for ignored in labelled.ignored}
        skipped: list[Skipped] = []
        jobs = tuple(self._job(group, now_s, skipped) for group in labelled.jobs)
        self._cpu_time.turn()
        alive = {process.key for job in jobs for process in job.processes}
        self._placements = {key: kept for key, kept in self._placements.items() if key in alive}
        memory = node_sysfs.read_memory(self._root, self._topology)
        self.took_s = time.monotonic() - now_s
        return Snapshot(now_s, self._topology, memory, jobs, tuple(skipped))

    def _job(self, group: cgroup.LabelledCgroup, now_s: float, skipped: list[Skipped]) -> Job:
        pids = sorted({pid for directory in group.directories for pid in cgroup.procs(directory)})
        seen = [process for pid in pids if (process := self._small_files(pid, skipped))]
        memory = self._job_memory(group)
        self._read_placements(seen, memory, now_s, skipped)
        processes = tuple(
            _process(process, self._placements[process.key], now_s)
            for process in seen
            if process.key in self._placements
        )
        return Job(group.cgroup_id, group.path, group.profile, processes, memory)

    def _small_files(self, pid: int, skipped: list[Skipped]) -> _Seen | None:
        """Read what takes no lock of the process; None when it is gone, or may not or cannot be read."""
        try:
            stat = proc_stat.read(pid, self._root)
            status = proc_status.read(pid, self._root)
            key = ProcessKey(pid, stat.start_ticks)
            return _Seen(key, stat.comm, status, self._cpu_time.since_last_look(key))
        except (ProcessLookupError, FileNotFoundError):
            return None
        except (PermissionError, Malformed) as error:
            # Neither start time nor command can be told where they were not read.
            skipped.append(Skipped(ProcessKey(pid, 0), "", str(error)))
            return None

    def _job_memory(self, group: cgroup.LabelledCgroup) -> JobMemory | None:
        try:
            text = (group.directories[0] / "memory.numa_stat").read_bytes()
            return cgroup.numa_stat(text, self._topology.node_ids)
        except (OSError, Malformed):  # no memory controller here, or the cgroup is gone
            return None

    def _read_placements(
        self, seen: list[_Seen], memory: JobMemory | None, now_s: float, skipped: list[Skipped]
    ) -> None:
        trusted = memory if _agrees(memory, sum(process.status.rss_anon_bytes for process in seen)) else None
        due = [process for process in seen if self._is_due(process, trusted, now_s)]
        results = self._workers.run([(process.key, partial(self._regions, process.key)) for process in due])
        for process, result in zip(due, results, strict=True):
            if isinstance(result, Regions):
                rss_anon_bytes = process.status.rss_anon_bytes
                self._placements[process.key] = _Placement(result, now_s, trusted, rss_anon_bytes)
            elif not isinstance(result, (ProcessLookupError, FileNotFoundError)):
                why = result.value if isinstance(result, Unfinished) else str(result)
                skipped.append(Skipped(process.key, process.comm, why))
                self._placements.pop(process.key, None)

    def _is_due(self, process: _Seen, trusted: JobMemory | None, now_s: float) -> bool:
        known = self._placements.get(process.key)
        if known is None or now_s - known.read_s > OLDEST_PLACEMENT_S:
            return True
        if trusted is not None and known.memory is not None:
            return _moved(known.memory, trusted)
        return len(process.threads.tid) > 0 or process.status.rss_anon_bytes != known.rss_anon_bytes

    def _regions(self, key: ProcessKey) -> Regions | Malformed:
        try:
            mapped = maps.parse(maps.read(key.pid, self._root))
            text = numa_maps.read(key.pid, self._root)
            placed = numa_maps.parse(text, self._topology.node_ids, self._topology.page_bytes)
        except Malformed as error:
            return error
        return numa_maps.regions(placed, mapped)


def _process(seen: _Seen, placement: _Placement, now_s: float) -> Process:
    return Process(
        seen.key,
        seen.comm,
        seen.status.nodes_allowed,
        seen.threads,
        placement.regions,
        now_s - placement.read_s,
    )


def _agrees(memory: JobMemory | None, rss_anon_bytes: int) -> bool:
    """Say whether memory.numa_stat may be believed.

    Charges stay in the cgroup where a page was charged first, so that after
    late labelling a job can show 0 where its processes hold gigabytes.
    """
    if memory is None:
        return False
    return abs(int(memory.anon_bytes.sum()) - rss_anon_bytes) <= TRUSTED_SHARE * rss_anon_bytes


def _moved(before: JobMemory, now: JobMemory) -> bool:
    """Say whether a job's bytes on any node changed by more than a hundredth of the job."""
    was = before.anon_bytes + before.file_bytes
    moved = np.abs(now.anon_bytes + now.file_bytes - was)
    return bool((moved > UNCHANGED_SHARE * was.sum()).any())
