# SPDX-License-Identifier: Apache-2.0

"""The lines of a trace, as strict types: what may stand in a file, and nothing else."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from numad_py.model import AccessSource, Ending, PlacementSource, Reason, Refusal, Verdict
from numad_py.topology import DeviceKind

VERSION: Literal[1] = 1
READABLE = (0, 1)  # in 0 no plan moves tasks and no job has a barrier
MINOR = 2  # grows with each column that is added; a reader ignores those that it does not know
COLUMNS_ADDED = (  # since minor version 0
    *("moved_threads", "task_outcomes"),
    *("figures", "among", "backing", "offset", "progress", "progress_age_s", "judged", "demotes"),
)
ZERO = 0.0  # msgspec leaves out a number only if it is the very object that is the default

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Column = list[Count]
Number = TypeVar("Number", np.int64, np.uint64, np.float64)


# Beyond what any clock or machine reaches, and far below where sums and products of them overflow.
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Amount = Annotated[float, Meta(ge=0, le=1e24)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 52)]
Figures = dict[str, Annotated[float, Meta(ge=-1e24, le=1e24)]]
PageBytes = Annotated[int, Meta(ge=1, le=1 << 52)]


class Kind(StrEnum):
    """What kind of damage it is, to be counted by."""

    LINE = "unreadable line"
    VALUE = "impossible value"
    CLOCK = "clock"
    ORDER = "lost or repeated line"
    HEADER = "header"
    CUT = "cut file"


class Damage(ValueError):
    """What a line says, or how it says it, cannot be; ``remedy`` where there is one of its own."""

    def __init__(self, what: str, kind: Kind = Kind.VALUE, remedy: str = "") -> None:
        super().__init__(what)
        self.kind = kind
        self.remedy = remedy


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Anything on a line."""


# The kernel's CONFIG_NR_CPUS ends at 8192; tables are as long as the highest CPU number.
Cpus = list[Annotated[int, Meta(ge=0, lt=1 << 16)]]


class Node(Part, frozen=True, omit_defaults=True):
    """One NUMA node; the last four as the kernel tells them, if it does."""

    id: Count
    cpus: Cpus
    total_bytes: Bytes
    gpu: bool = False
    tier: Count | None = None
    read_latency_ns: Count | None = None
    read_mb_per_s: Count | None = None


class Device(Part, frozen=True):
    """One PCI device and the node it hangs on."""

    address: str
    kind: DeviceKind
    node: Count | None


class Topology(Part, frozen=True, omit_defaults=True):
    """The machine; ``nodes`` ascending by id, ``distances`` row by row in their order.

    ``sockets``, ``llcs`` and ``cores`` are the CPUs that each of them holds.
    """

    nodes: list[Node]
    distances: list[Column]
    page_bytes: PageBytes
    sockets: list[Cpus] = []
    llcs: list[Cpus] = []
    cores: list[Cpus] = []
    isolated_cpus: Cpus = []
    nohz_full_cpus: Cpus = []
    devices: list[Device] = []
    demotes: bool = False


class Header(Part, frozen=True, omit_defaults=True, tag_field="type", tag="header"):
    """The first line; ``columns_added`` since minor version 0 have names that no other field has."""

    version: Literal[0, 1]
    tool_version: str
    topology: Topology
    kernel: str
    boot_id: str
    clock: Literal["CLOCK_MONOTONIC", "simulated"]
    started_unix_s: Annotated[float, Meta(ge=-1e12, le=1e12)]
    sources: list[str]
    keyframe_every: Annotated[int, Meta(ge=1)]
    anonymised: bool
    move_4k_page_ns: Annotated[float, Meta(ge=0, le=1e12)] | None
    minor: Count = 0
    columns_added: list[str] = []


class Key(Part, frozen=True, array_like=True):
    """A process: ``[pid, start_ticks]``."""

    pid: Count
    start_ticks: Count


class Regions(Part, frozen=True, omit_defaults=True):
    """VMAs as columns, ascending by ``start``; ``pages`` has one column per node."""

    start: Column
    end: Column
    page_bytes: list[PageBytes]
    kind: list[Annotated[int, Meta(ge=0, le=3)]]
    mempolicy: list[Annotated[int, Meta(ge=0, le=6)]]
    mapmax: Column
    anon_pages: Column
    pages: list[Column]
    backing: Column = []
    offset: Column = []


class Recount(Part, frozen=True):
    """New page counts of some rows."""

    row: Column
    anon_pages: Column
    pages: list[Column]


class Changes(Part, frozen=True, omit_defaults=True):
    """From a process's last regions to these: row numbers are those of the last ones."""

    gone: Column = []
    recount: Recount | None = None
    new: Regions | None = None


class Threads(Part, frozen=True):
    """Threads as columns."""

    tid: Column
    cpu: Column
    cpu_s: list[Seconds]


class ThreadGroup(Part, frozen=True):
    """Threads that ran on one node, or all of a process where ``node`` is null; ``cpu_s`` is by node."""

    node: Count | None
    tid: Column
    cpu_s: list[Seconds]


class Accesses(Part, frozen=True):
    """Who touched which memory; ``counts`` has one list per group, by region."""

    source: AccessSource
    groups: list[ThreadGroup]
    start: Column
    end: Column
    counts: list[Column]
    checks: Count | None
    period_s: Seconds


class Process(Part, frozen=True, omit_defaults=True):
    """One process: ``regions`` whole, or what changed in them, or neither: they are as before."""

    key: Key
    comm: str
    nodes_allowed: Column
    threads: Threads
    placement_age_s: Seconds | None
    regions: Regions | None = None
    changes: Changes | None = None
    cpu_age_s: Seconds | None = ZERO
    placement_source: PlacementSource = PlacementSource.NUMA_MAPS
    placement_error_share: Amount = ZERO
    gpus: list[str] = []
    accesses: Accesses | None = None


class JobMemory(Part, frozen=True):
    """What the cgroup is charged, by node."""

    anon_bytes: Column
    file_bytes: Column


class JobCounters(Part, frozen=True):
    """What counters say of a job; ``counts`` by event name."""

    period_s: Seconds
    counts: dict[str, Amount]
    local_accesses: Amount | None
    remote_accesses: Amount | None
    stall_share: Amount | None
    memory_bound: bool | None
    verified: bool


class Job(Part, frozen=True, omit_defaults=True):
    """One labelled cgroup."""

    cgroup_id: Count
    path: str
    profile: str
    processes: list[Process]
    memory: JobMemory | None
    counters: JobCounters | None = None
    barrier: bool = False
    progress: Amount | None = None
    progress_age_s: Seconds = ZERO


class NodeMemory(Part, frozen=True):
    """Every node's memory, as columns by node."""

    total_bytes: list[Bytes]
    free_bytes: Column
    high_watermark_bytes: Column
    file_bytes: Column
    inactive_file_bytes: Column
    dirty_bytes: Column
    anon_bytes: Column


class Skipped(Part, frozen=True):
    """A process that was not looked at."""

    process: Key
    comm: str
    why: str


class Move(Part, frozen=True, omit_defaults=True):
    """One wish to move pages."""

    process: Key
    start: Column
    end: Column
    page_bytes: list[PageBytes]
    sources: Column
    targets: Column
    limit_bytes: Count
    reason: Reason
    whole: bool
    figures: Figures = {}
    among: list[Key] = []


class TaskMove(Part, frozen=True, omit_defaults=True):
    """One wish to move threads."""

    process: Key
    nodes: Column
    reason: Reason
    figures: Figures = {}


class Held(Part, frozen=True, omit_defaults=True):
    """Bytes that the guard held back."""

    process: Key
    bytes: Count
    why: Refusal
    figures: Figures = {}


class Judged(Part, frozen=True, omit_defaults=True):
    """What the guard found of earlier moves of a job."""

    cgroup_id: Count
    verdict: Verdict
    figures: Figures = {}


class Plan(Part, frozen=True, omit_defaults=True):
    """All wishes of the tick."""

    moves: list[Move]
    held: list[Held]
    task_moves: list[TaskMove] = []
    judged: list[Judged] = []


class Outcome(Part, frozen=True, omit_defaults=True):
    """What became of the move at the same place in the plan."""

    ending: Ending
    moved_bytes: Count
    failed: dict[str, Count]
    stayed_start: Column
    stayed_end: Column
    reached: Count
    took_s: Seconds
    call_s: list[Seconds]
    detail: str
    moved_threads: Count = 0


class LookCost(Part, frozen=True, omit_defaults=True):
    """What looking took of the daemon's CPU time, and what was put off."""

    cpu_s: Seconds
    core_share: Amount
    postponed: list[Key]
    investigation_cpu_s: Seconds = ZERO


class Tick(Part, frozen=True, omit_defaults=True, tag_field="type", tag="tick"):
    """Every other line."""

    number: Count
    keyframe: bool
    time_s: Seconds
    memory: NodeMemory
    jobs: list[Job]
    skipped: list[Skipped]
    plan: Plan
    outcomes: list[Outcome]
    cost: LookCost | None = None
    task_outcomes: list[Outcome] = []


def _plain(value: object) -> object:
    """Turn a numpy scalar, which a policy may well leave where a number is meant, into that number."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a trace cannot hold {value!r}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder: msgspec.json.Decoder[Header | Tick] = msgspec.json.Decoder(Header | Tick)


def encoded(line: Header | Tick) -> bytes:
    """Give the line, its newline included."""
    return _encoder.encode(line) + b"\n"


def decoded(line: bytes, ignored: frozenset[str] = frozenset()) -> Header | Tick:
    """Give what the line says, without the fields of these names; raises Damage and nothing else."""
    try:
        if ignored:
            # Not by convert(): of an integer that no float can hold it makes a SystemError, before msgspec 0.22.
            line = msgspec.json.encode(_without(ignored, msgspec.json.decode(line)))
        return _decoder.decode(line)
    except msgspec.ValidationError as error:
        raise Damage(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damage(str(error), Kind.LINE) from error


def unknown(names: list[str]) -> frozenset[str]:
    """Give those of the names that no field here has."""
    return frozenset(names).difference(*(part.__struct_fields__ for part in Part.__subclasses__()))


def _without(names: frozenset[str], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(names, part) for key, part in value.items() if key not in names}
    return [_without(names, part) for part in value] if isinstance(value, list) else value


def check_length(values: list[int] | list[float], length: int, name: str) -> None:
    """Raise Damage unless the column has that length."""
    if len(values) != length:
        raise Damage(f"column {name} has {len(values)} values where {length} belong")


def column(values: list[int] | list[float], dtype: type[Number], length: int, name: str) -> NDArray[Number]:
    """Give a column as a read-only array; raises Damage unless it has that length."""
    check_length(values, length, name)
    array = np.array(values, dtype)
    array.setflags(write=False)
    return array


def escaped(name: str) -> str:
    r"""Write bytes that are not UTF-8, as in any file name, as ``\xff``, and so a backslash as ``\x5c``."""
    if name.isascii() and "\\" not in name:
        return name
    return name.replace("\\", r"\x5c").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unescaped(name: str) -> str:
    """Undo ``escaped``."""
    if "\\" not in name:
        return name
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), name.encode())
    return raw.decode("utf-8", "surrogateescape")
