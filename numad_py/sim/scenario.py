# SPDX-License-Identifier: Apache-2.0

"""A published pathology, written down, as the trace that a daemon would have recorded of it.

Problem: what is said to hurt happens on machines that nobody has at hand.
Primitive: a script of jobs: where their processes run, and where their memory lies or grows, from when on.
Application: its ticks are replayed like any trace. Placement in them is what first touch gives while
nothing is moved.

Run as ``python -m numad_py.sim.scenario NAME FILE`` it writes the trace.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Final, Literal

import numpy as np

from numad_py.model import (
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
from numad_py.profile import ProfileError, from_mapping, load_yaml
from numad_py.sim.shipped import find
from numad_py.topology import Bools, Floats, Ints, Node, Topology
from numad_py.trace import Header, Writer

MB: Final = 1 << 20
PAGE_BYTES: Final = 4096
FIRST_PID: Final = 1000
USER_HZ: Final = 100  # start times are in its clock ticks
KERNEL_MB: Final = 200  # of each node, in use by nobody else
WATERMARK_MB: Final = 16
DIRTY_MB: Final = 2
_APART_BYTES: Final = 1 << 40  # from one region's start to the next one's
_LEAST_BUSY_PERCENT: Final = 95  # of its core, that a thread uses: clocks and counts are never round


class Mark(StrEnum):
    """Where the figures of a group come from."""

    SOURCED = "sourced"
    MEASURED = "measured"
    FITTED = "fitted"


@dataclass(frozen=True)
class Machine:
    """By node: CPUs and MB = 2^20 bytes of memory, of which ``file_mb`` are page cache."""

    cpus: tuple[int, ...]
    memory_mb: tuple[int, ...]
    file_mb: tuple[int, ...]
    distances: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        sides = (self.memory_mb, self.file_mb, self.distances, *self.distances)
        if any(len(side) != len(self.cpus) for side in sides):
            raise ValueError("cpus: as many figures as every other list of the machine has are needed")
        if not self.cpus or not all(mb > 0 for mb in self.memory_mb):
            raise ValueError("memory_mb: every node needs memory")

    @cached_property
    def topology(self) -> Topology:
        """The machine as a daemon would see it; its CPUs are numbered through."""
        first = [0, *accumulate(self.cpus)]
        nodes = (
            Node(node, tuple(range(first[node], first[node] + count)), mb * MB)
            for node, (count, mb) in enumerate(zip(self.cpus, self.memory_mb, strict=True))
        )
        return Topology(tuple(nodes), self.distances, PAGE_BYTES)


@dataclass(frozen=True)
class Phase:
    """From ``at_s`` of a process's life on, so many cores of each node run it."""

    at_s: float
    cores: tuple[float, ...]


@dataclass(frozen=True)
class Growth:
    """From ``at_s`` to ``until_s`` of a process's life, MB that it touches each second, where it runs most."""

    at_s: float
    until_s: float
    mb_per_s: float


@dataclass(frozen=True)
class Memory:
    """One region: the MB of each node that it holds at first. ``mapped_by`` so many processes, which share its pages."""

    mb: tuple[float, ...]
    kind: Literal["anon", "heap", "stack", "file"] = "anon"
    mempolicy: Literal["default", "bind", "interleave"] = "default"
    page_kb: int = 4
    mapped_by: int = 1
    grows: tuple[Growth, ...] = ()

    def __post_init__(self) -> None:
        if self.page_kb < 1 or self.mapped_by < 1:
            raise ValueError("page_kb: it and mapped_by are at least 1")
        if any(mb < 0 for mb in self.mb):
            raise ValueError("mb: none is below 0")


@dataclass(frozen=True)
class Group:
    """Processes of one job that are alike; each begins ``apart_s`` after the one before, and lives ``lives_s``.

    ``mark`` says where the figures come from, and ``source`` names it.
    """

    mark: Mark
    source: str
    run: tuple[Phase, ...]
    memory: tuple[Memory, ...]
    processes: int = 1
    apart_s: float = 0.0
    lives_s: float | None = None
    nodes_allowed: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.run or self.run[0].at_s != 0:
            raise ValueError("run: the first phase begins at_s: 0")
        if [phase.at_s for phase in self.run] != sorted({phase.at_s for phase in self.run}):
            raise ValueError("run: each phase begins after the one before")

    def phase(self, age_s: float) -> Phase:
        """Give what a process of that age does."""
        return next(phase for phase in reversed(self.run) if phase.at_s <= age_s)


@dataclass(frozen=True)
class ScriptedJob:
    """One job by name, and what runs in it."""

    name: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Scenario:
    """``published`` tells what was seen, where, and how large the effect was."""

    about: str
    published: str
    machine: Machine
    jobs: tuple[ScriptedJob, ...]
    length_s: float = 120.0
    every_s: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        nodes = len(self.machine.cpus)
        if self.length_s < self.every_s or self.every_s <= 0:
            raise ValueError("length_s: at least one look is needed")
        for name, group in ((job.name, group) for job in self.jobs for group in job.groups):
            cores = [phase.cores for phase in group.run]
            if any(len(each) != nodes for each in (*cores, *(memory.mb for memory in group.memory))):
                raise ValueError(f"jobs: {name}: a figure for each of the {nodes} nodes is needed")
            if (np.array(cores) > self.machine.cpus).any():
                raise ValueError(f"jobs: {name}: a process runs on more cores than a node has")

    def header(self, name: str) -> Header:
        """Give the head of its trace."""
        return Header(
            topology=self.machine.topology,
            kernel="none: made up",
            boot_id="00000000-0000-0000-0000-000000000000",
            started_unix_s=0.0,
            sources=(f"sim/scenarios/{name}.yaml",),
            clock="simulated",
            tool_version="0",
        )


def read(path: Path) -> Scenario:
    """Read a scenario; raise ProfileError, which says what is wrong and where."""
    return from_mapping(Scenario, load_yaml(path), str(path))


def ticks(scenario: Scenario) -> Iterator[Tick]:
    """Yield the same ticks every time; raise ProfileError where a node cannot hold what it is to hold."""
    random = Random(scenario.seed)  # noqa: S311 - noise, not a secret
    cast = list(_cast(scenario.jobs))
    on = scenario.machine.topology
    for number in range(round(scenario.length_s / scenario.every_s)):
        time_s = number * scenario.every_s
        alive = [actor for actor in cast if actor.lives(time_s)]
        processes: dict[int, list[Process]] = {job: [] for job in range(1, len(scenario.jobs) + 1)}
        for actor in alive:
            processes[actor.job].append(actor.process(time_s, scenario.every_s, on, random))
        jobs = tuple(
            Job(number, f"/training.slice/{job.name}.scope", "hold", tuple(processes[number]), None)
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

    def __init__(self, job: int, group: Group, number: int, index: int, counted: Bools) -> None:
        self.job, self.counted = job, counted
        self._group, self._start_s, self._first_cpu = group, index * group.apart_s, index
        self._key = ProcessKey(FIRST_PID + number, max(int(self._start_s * USER_HZ), number))
        self._mb = np.array([each.mb for each in group.memory], np.float64)
        self.regions = _regions(group.memory, self._mb)

    def lives(self, time_s: float) -> bool:
        """Say whether it has begun and not ended."""
        lives_s = self._group.lives_s
        return time_s >= self._start_s and (lives_s is None or time_s < self._start_s + lives_s)

    def process(self, time_s: float, every_s: float, on: Topology, random: Random) -> Process:
        """Live until then."""
        age_s = time_s - self._start_s
        cores = self._group.phase(age_s).cores
        self._grow(age_s, every_s, cores)
        allowed = self._group.nodes_allowed
        return Process(
            key=self._key,
            comm="python3",
            nodes_allowed=on.node_ids if allowed is None else allowed,
            threads=self._threads(cores, every_s, on, random),
            regions=self.regions,
            placement_age_s=0.0,
        )

    def _grow(self, age_s: float, every_s: float, cores: tuple[float, ...]) -> None:
        grown_mb = [
            sum(each.mb_per_s * every_s for each in memory.grows if each.at_s < age_s <= each.until_s)
            for memory in self._group.memory
        ]
        if any(grown_mb):
            self._mb[:, int(np.argmax(cores))] += grown_mb
            self.regions = _regions(self._group.memory, self._mb)

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
        mapped: set[Memory] = set()  # by several; where two groups say the same of it, it is the same memory
        for group in script.groups:
            threads = max(int(np.ceil(phase.cores).sum()) for phase in group.run)
            for index in range(group.processes):
                counted = np.array([each.mapped_by == 1 or each not in mapped for each in group.memory])
                mapped.update(group.memory)
                yield _Actor(job, group, number, index, counted)
                number += max(threads, 1)


def _regions(memory: Sequence[Memory], mb: Floats) -> Regions:
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
        mapmax=np.array([each.mapped_by for each in memory], np.int64),
        anon_pages=np.where(file, 0, held),
        pages=pages,
    )


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
