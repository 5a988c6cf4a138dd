# SPDX-License-Identifier: Apache-2.0

"""A published pathology, written down, as the trace that a daemon would have recorded of it.

Problem: what is said to hurt happens on machines that nobody has at hand.
Primitive: a script of jobs: where their processes run, and where their memory lies or grows, from when on.
Application: its ticks are replayed like any trace. Placement in them is what first touch gives while
nothing is moved.

Run as ``python -m numad_py.sim.scenario NAME FILE`` it writes the trace.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from numad_py.model import (
    Accesses,
    Job,
    Mempolicy,
    NodeMemory,
    Plan,
    Process,
    ProcessKey,
    RegionKind,
    Regions,
    Snapshot,
    Threads,
    Tick,
)
from numad_py.profile import ProfileError
from numad_py.sim import cost, touched
from numad_py.sim.script import MB, Group, Machine, Memory, Scenario, ScriptedJob, read
from numad_py.sim.shipped import find
from numad_py.topology import Bools, Floats, Ints, Topology
from numad_py.trace import Header, Writer

FIRST_PID: Final = 1000
USER_HZ: Final = 100  # start times are in its clock ticks
KERNEL_MB: Final = 200  # of each node, in use by nobody else
WATERMARK_MB: Final = 16
DIRTY_MB: Final = 2
_APART_BYTES: Final = 1 << 40  # from one region's start to the next one's
# A page that a device holds (cudaHostRegister, RDMA, io_uring) never moves: mm/migrate.c, folio_migrate_mapping(), v6.12,
# answers EAGAIN while there are more references than mappings explain. No trace tells that. What a trace can tell and no
# move gets past is that others map a page: so pinned memory is taken to be mapped by one more process.
PINNED_MAPMAX: Final = 2
_LEAST_BUSY_PERCENT: Final = 95  # of its core, that a thread uses: clocks and counts are never round


def prices(scenario: Scenario, header: Header, machine: Path | None = None, kernel: str = "") -> cost.Prices:
    """Give what a scenario costs on the machine that is asked for, else on the one that it names.

    Raises ProfileError where there is none by that name, or it has another number of nodes.
    """
    named = find("machines", scenario.played_on) if scenario.played_on else None
    costs = cost.prices_for(header, machine or named, kernel)
    return costs.for_work(scenario.memory_share, scenario.parallel_accesses)


def ticks(scenario: Scenario) -> Iterator[Tick]:
    """Yield the same ticks every time; raise ProfileError where a node cannot hold what it is to hold."""
    random = Random(scenario.seed)  # noqa: S311 - noise, not a secret
    worked_s = [0.0 for _ in scenario.jobs]
    cast = list(_cast(scenario.jobs))
    on, gpus = scenario.machine.topology, scenario.machine.gpu_addresses
    for number in range(round(scenario.length_s / scenario.every_s)):
        time_s = number * scenario.every_s
        alive = [actor for actor in cast if actor.lives(time_s)]
        processes: dict[int, list[Process]] = {job: [] for job in range(1, len(scenario.jobs) + 1)}
        for actor in alive:
            processes[actor.job].append(actor.process(time_s, scenario.every_s, on, gpus, random))
        for job_number, ran in processes.items():
            worked_s[job_number - 1] += sum(float(each.threads.cpu_s.sum()) for each in ran)
        jobs = tuple(
            Job(
                number,
                f"/training.slice/{job.name}.scope",
                "hold",
                tuple(processes[number]),
                None,
                barrier=job.barrier,
                progress=worked_s[number - 1] if job.reports else None,
            )
            for number, job in enumerate(scenario.jobs, 1)
        )
        memory = _memory(scenario.machine, [(actor.regions, actor.counted) for actor in alive])
        _check_room(memory, time_s, on)
        yield Tick(Snapshot(time_s, on, memory, jobs), Plan(), ())


def _check_room(memory: NodeMemory, time_s: float, on: Topology) -> None:
    if (memory.free_bytes < 0).any():
        node = on.nodes[int(memory.free_bytes.argmin())].id
        raise ProfileError(f"jobs: at {time_s:g} s node {node} is to hold more than it has")


class _Actor:
    """One process of a job, by the job's number, and the regions that it has at the moment.

    ``counted`` are those that are not another's too, who was there before.
    """

    def __init__(
        self, job: int, group: Group, number: int, index: int, counted: Bools, backing: Ints
    ) -> None:
        self.job, self.counted, self._backing = job, counted, backing
        self._group, self._start_s, self._first_cpu = group, index * group.apart_s, index
        self._key = ProcessKey(FIRST_PID + number, max(int(self._start_s * USER_HZ), number))
        self._mb = np.array([each.mb for each in group.memory], np.float64)
        self.regions = _regions(group.memory, self._mb, backing)
        self._untold = group.investigated_s

    def lives(self, time_s: float) -> bool:
        """Say whether it has begun and not ended."""
        lives_s = self._group.lives_s
        return time_s >= self._start_s and (lives_s is None or time_s < self._start_s + lives_s)

    def process(
        self, time_s: float, every_s: float, on: Topology, gpus: Sequence[str], random: Random
    ) -> Process:
        """Live until then."""
        group, age_s = self._group, time_s - self._start_s
        cores = group.phase(age_s).cores
        self._grow(age_s, every_s, cores)
        threads = self._threads(cores, every_s, on, random)
        return Process(
            key=self._key,
            comm="python3",
            nodes_allowed=on.node_ids if group.nodes_allowed is None else group.nodes_allowed,
            threads=threads,
            regions=self.regions,
            placement_age_s=0.0,
            gpus=tuple(gpus[number] for number in group.gpus),
            accesses=self._told(age_s, every_s, threads, on),
        )

    def _told(self, age_s: float, every_s: float, threads: Threads, on: Topology) -> Accesses | None:
        """Give what an investigation tells, once, when it is due."""
        if self._untold is None or age_s < self._untold:
            return None
        accesses = touched.accesses(self._group.memory, self.regions, threads, on, every_s)
        self._untold = None if accesses else self._untold
        return accesses

    def _grow(self, age_s: float, every_s: float, cores: tuple[float, ...]) -> None:
        grown_mb = [
            sum(each.mb_per_s * every_s for each in memory.grows if each.at_s < age_s <= each.until_s)
            for memory in self._group.memory
        ]
        if any(grown_mb):
            self._mb[:, int(np.argmax(cores))] += grown_mb
            self.regions = _regions(self._group.memory, self._mb, self._backing)

    def _threads(self, cores: tuple[float, ...], every_s: float, on: Topology, random: Random) -> Threads:
        """Give a thread per core in use, and one for the rest of a core, each a little less than fully busy."""
        cpus, cpu_s = [], []
        for node, count in zip(on.nodes, cores, strict=True):
            for position in range(int(np.ceil(count))):
                cpus.append(node.cpus[(self._first_cpu + position) % len(node.cpus)])
                busy = (_LEAST_BUSY_PERCENT + int(random.random() * 6)) / 100
                cpu_s.append(busy * min(count - position, 1.0) * every_s)
        tids = np.arange(self._key.pid, self._key.pid + len(cpus), dtype=np.int64)
        return Threads(tids, np.array(cpus, np.int64), np.array(cpu_s, np.float64))


def _cast(jobs: Sequence[ScriptedJob]) -> Iterator[_Actor]:
    number = 1
    for job, script in enumerate(jobs, 1):
        mapped: set[Memory | str] = set()  # by several
        shared = _shared(script)
        for group in script.groups:
            threads = max(int(np.ceil(phase.cores).sum()) for phase in group.run)
            for index in range(group.processes):
                named = [each.shared_as or each for each in group.memory]
                counted = np.array([each.mapped_by == 1 for each in group.memory])
                counted |= [name not in mapped for name in named]
                mapped.update(named)
                backing = np.array([shared.get(name, 0) for name in named], np.int64)
                yield _Actor(job, group, number, index, counted, backing)
                number += max(threads, 1)


def _shared(job: ScriptedJob) -> dict[Memory | str, int]:
    """Give each memory that the processes of a job share among themselves alone a number."""
    mappers: Counter[Memory | str] = Counter()
    mapped_by: dict[Memory | str, int] = {}
    for group in job.groups:
        for each in group.memory:
            mappers[each.shared_as or each] += group.processes
            mapped_by[each.shared_as or each] = 1 if each.pinned else each.mapped_by
    within = (name for name, processes in mapped_by.items() if 1 < processes == mappers[name])
    return {name: number for number, name in enumerate(within, 1)}


def _regions(memory: Sequence[Memory], mb: Floats, backing: Ints) -> Regions:
    page_bytes = np.array([each.page_kb << 10 for each in memory], np.int64)
    pages = np.rint(mb * MB / page_bytes[:, None]).astype(np.int64)
    start = np.arange(1, len(memory) + 1, dtype=np.uint64) * np.uint64(_APART_BYTES)
    held = pages.sum(axis=1)
    file = np.array([each.kind == "file" for each in memory])
    return Regions(
        start=start,
        end=start + (np.maximum(held, 1) * page_bytes).astype(np.uint64),
        page_bytes=page_bytes,
        kind=np.array([RegionKind[each.kind.upper()] for each in memory], np.int64),
        mempolicy=np.array([Mempolicy[each.mempolicy.upper()] for each in memory], np.int64),
        mapmax=np.array([_mapmax(each) for each in memory], np.int64),
        backing=backing,
        offset=np.zeros(len(memory), np.int64),
        anon_pages=np.where(file, 0, held),
        pages=pages,
    )


def _mapmax(memory: Memory) -> int:
    return max(memory.mapped_by, PINNED_MAPMAX) if memory.pinned else memory.mapped_by


def _memory(machine: Machine, held: Sequence[tuple[Regions, Bools]]) -> NodeMemory:
    """Add up what is in use by counted regions; files that are mapped are part of the page cache."""
    total, file = (np.array(mb, np.int64) * MB for mb in (machine.memory_mb, machine.file_mb))
    anon: Ints = np.zeros_like(total)
    for regions, counted in held:
        anon += regions.resident_bytes[counted & (regions.kind != RegionKind.FILE)].sum(axis=0)
    one = np.ones_like(total)
    return NodeMemory(
        total_bytes=total,
        free_bytes=total - file - anon - KERNEL_MB * MB,
        high_watermark_bytes=one * (WATERMARK_MB * MB),
        file_bytes=file,
        inactive_file_bytes=file // 2,
        dirty_bytes=np.minimum(one * (DIRTY_MB * MB), file // 2),
        anon_bytes=anon,
    )


if __name__ == "__main__":
    _name, _file = sys.argv[1:]
    _scenario = read(find("scenarios", _name))
    with Writer(Path(_file), _scenario.header(Path(_name).stem)) as _writer:
        for _tick in ticks(_scenario):
            _writer.write(_tick)
