# SPDX-License-Identifier: Apache-2.0

"""What a scenario's file says: a machine, jobs, and where every figure comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from numad_py.machines import Figure
from numad_py.profile import ProfileError, from_mapping, load_yaml
from numad_py.sim import figures
from numad_py.topology import CpuGroups, Device, DeviceKind, Node, Topology
from numad_py.trace import Header

MB: Final = 1 << 20
PAGE_BYTES: Final = 4096
_UNMARKED: Final = (
    "every_s",
    "seed",
    "marks",
    "published_effects",
)  # how it is played, and what is said of it


class Mark(StrEnum):
    """Where figures come from."""

    SOURCED = "sourced"
    MEASURED = "measured"
    FITTED = "fitted"


@dataclass(frozen=True)
class Marked:
    """Figures by dotted paths, of which ``*`` is any one part, and the source that all of them share."""

    mark: Mark
    figures: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Effect:
    """What was published of ``figure`` under ``policy``, as a number or as a range.

    ``kind`` says whether figures of the scenario were fitted to it: then it proves nothing of the model.
    """

    figure: Literal[
        "local_share_end",
        "local_share_mean",
        "remote_access_share",
        "modelled_time_to_hold",
        "worst_settle_s",
    ]
    policy: str
    value: Figure
    kind: Literal["fitted", "independent"]


@dataclass(frozen=True)
class Machine:
    """By node: CPUs and MB = 2^20 bytes of memory, of which ``file_mb`` are page cache; ``gpus`` has each GPU's node."""

    cpus: tuple[int, ...]
    memory_mb: tuple[int, ...]
    file_mb: tuple[int, ...]
    distances: tuple[tuple[int, ...], ...]
    threads_per_core: int = 1
    gpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sides = (self.memory_mb, self.file_mb, self.distances, *self.distances)
        if any(len(side) != len(self.cpus) for side in sides):
            raise ValueError("cpus: as many figures as every other list of the machine has are needed")
        if not self.cpus or not all(mb > 0 for mb in self.memory_mb):
            raise ValueError("memory_mb: every node needs memory")
        if self.threads_per_core < 1 or any(count % self.threads_per_core for count in self.cpus):
            raise ValueError("threads_per_core: at least 1, and the CPUs of every node are whole cores")
        if not all(0 <= node < len(self.cpus) for node in self.gpus):
            raise ValueError("gpus: each hangs on a node, counted from 0")

    @cached_property
    def topology(self) -> Topology:
        """The machine as a daemon would see it; its CPUs are numbered through, each node's siblings after its cores."""
        first = [0, *accumulate(self.cpus)]
        nodes = (
            Node(node, tuple(range(first[node], first[node] + count)), mb * MB)
            for node, (count, mb) in enumerate(zip(self.cpus, self.memory_mb, strict=True))
        )
        devices = (
            Device(address, DeviceKind.GPU, node)
            for address, node in zip(self.gpu_addresses, self.gpus, strict=True)
        )
        return Topology(
            tuple(nodes), self.distances, PAGE_BYTES, cores=self._cores(first), devices=tuple(devices)
        )

    @cached_property
    def gpu_addresses(self) -> tuple[str, ...]:
        """PCI addresses, ascending."""
        return tuple(f"0000:{number:02x}:00.0" for number in range(1, len(self.gpus) + 1))

    def _cores(self, first: Sequence[int]) -> CpuGroups:
        """Pair siblings as Linux numbers them, half a node apart; without any, cores are not told."""
        if self.threads_per_core == 1:
            return ()
        counts = [count // self.threads_per_core for count in self.cpus]
        return tuple(
            tuple(cpu + sibling * count for sibling in range(self.threads_per_core))
            for start, count in zip(first, counts, strict=False)
            for cpu in range(start, start + count)
        )


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
    """One region: the MB of each node that it holds at first. ``mapped_by`` so many processes, which share its pages.

    Where groups of a job say the same of such a region, or give it the same name in ``shared_as``, it is the same memory.
    ``pinned`` pages stay where they are, since a device holds them. ``touched_by`` cuts the region into parts of the
    same length, and says of each how often threads on each node touch an MB of it, beside other memory of the group;
    without it that is once.
    """

    mb: tuple[float, ...]
    kind: Literal["anon", "heap", "stack", "file"] = "anon"
    mempolicy: Literal["default", "bind", "interleave"] = "default"
    page_kb: int = 4
    mapped_by: int = 1
    shared_as: str = ""
    grows: tuple[Growth, ...] = ()
    pinned: bool = False
    touched_by: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.page_kb < 1 or self.mapped_by < 1:
            raise ValueError("page_kb: it and mapped_by are at least 1")
        if self.shared_as and self.mapped_by == 1:
            raise ValueError("shared_as: what one process alone maps is not shared")
        if any(mb < 0 for mb in self.mb):
            raise ValueError("mb: none is below 0")
        if any(each.mb_per_s < 0 for each in self.grows):
            raise ValueError("grows: nothing grows by less than 0")
        if any(often < 0 for part in self.touched_by for often in part):
            raise ValueError("touched_by: nothing is touched less often than never")


@dataclass(frozen=True)
class Group:
    """Processes of one job that are alike; each begins ``apart_s`` after the one before, and lives ``lives_s``.

    Phases begin anew every ``repeat_s``. ``gpus`` are numbers of the machine's GPUs, from 0. At ``investigated_s`` of
    its life, or when it runs next, an investigation tells who touches what.
    """

    run: tuple[Phase, ...]
    memory: tuple[Memory, ...]
    processes: int = 1
    apart_s: float = 0.0
    lives_s: float | None = None
    nodes_allowed: tuple[int, ...] | None = None
    repeat_s: float | None = None
    gpus: tuple[int, ...] = ()
    investigated_s: float | None = None

    def __post_init__(self) -> None:
        if not self.run or self.run[0].at_s != 0:
            raise ValueError("run: the first phase begins at_s: 0")
        if [phase.at_s for phase in self.run] != sorted({phase.at_s for phase in self.run}):
            raise ValueError("run: each phase begins after the one before")
        if not self.memory:
            raise ValueError("memory: a region is needed, which may hold nothing")
        if self.repeat_s is not None and self.repeat_s <= self.run[-1].at_s:
            raise ValueError("repeat_s: the last phase begins before it")
        if (self.investigated_s is None) == any(memory.touched_by for memory in self.memory):
            raise ValueError("investigated_s: it and touched_by of a memory go together")

    def phase(self, age_s: float) -> Phase:
        """Give what a process of that age does."""
        age_s = age_s % self.repeat_s if self.repeat_s else age_s
        return next(phase for phase in reversed(self.run) if phase.at_s <= age_s)


@dataclass(frozen=True)
class ScriptedJob:
    """One job by name, and what runs in it; with a ``barrier`` its processes wait for each other at every step.

    One that ``reports`` says how far it came, in CPU seconds of its work.
    """

    name: str
    groups: tuple[Group, ...]
    barrier: bool = False
    reports: bool = False


@dataclass(frozen=True)
class Scenario:
    """``published`` tells what was seen, where, and how large the effect was.

    ``split`` says whether policies may be tuned on it, or only an evaluation reads it. ``played_on`` names the machine
    file whose costs count where nobody asks for others; ``memory_share`` and ``parallel_accesses`` are the jobs' own,
    whatever a machine file takes them for.
    """

    about: str
    published: str
    machine: Machine
    jobs: tuple[ScriptedJob, ...]
    marks: tuple[Marked, ...]
    split: Literal["tune", "held"] = "tune"
    published_effects: tuple[Effect, ...] = ()
    length_s: float = 120.0
    every_s: float = 1.0
    seed: int = 1
    played_on: str = ""
    memory_share: float | None = None
    parallel_accesses: float | None = None

    def __post_init__(self) -> None:
        if self.length_s < self.every_s or self.every_s <= 0:
            raise ValueError("length_s: at least one look is needed")
        if not 0 <= (self.memory_share or 0) <= 1:
            raise ValueError("memory_share: a share is between 0 and 1")
        if self.parallel_accesses is not None and self.parallel_accesses <= 0:
            raise ValueError("parallel_accesses: more than 0 are needed")
        for name, group in ((job.name, group) for job in self.jobs for group in job.groups):
            self._check(name, group)

    def _check(self, name: str, group: Group) -> None:
        nodes = len(self.machine.cpus)
        cores = [phase.cores for phase in group.run]
        touched = [part for memory in group.memory for part in memory.touched_by]
        if any(len(each) != nodes for each in (*cores, *touched, *(memory.mb for memory in group.memory))):
            raise ValueError(f"jobs: {name}: a figure for each of the {nodes} nodes is needed")
        if (np.array(cores) > self.machine.cpus).any():
            raise ValueError(f"jobs: {name}: a process runs on more cores than a node has")
        if not all(0 <= gpu < len(self.machine.gpus) for gpu in group.gpus):
            raise ValueError(f"jobs: {name}: a GPU is one of the machine's gpus, counted from 0")

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
    """Read a scenario; raise ProfileError, which says what is wrong and where, or that it is held."""
    return scripted(document(path), str(path))


def document(path: Path) -> dict[str, Any]:
    """Read the mapping of a scenario that policies may be tuned on; raise ProfileError where it is held."""
    mapping = load_yaml(path)
    if mapping.get("split") == "held":
        raise ProfileError(f"{path}: is held: only an evaluation reads it")
    return mapping


def scripted(mapping: Mapping[str, Any], where: str) -> Scenario:
    """Make a scenario of a mapping, every figure of which has a mark."""
    scenario = from_mapping(Scenario, mapping, where)
    for path in figures.paths({key: value for key, value in mapping.items() if key not in _UNMARKED}):
        if figures.closest(path, [pattern for each in scenario.marks for pattern in each.figures]) is None:
            raise ProfileError(f"{where}: marks: none is for {path}; say whether it is {', '.join(Mark)}")
    return scenario
