# SPDX-License-Identifier: Apache-2.0

"""The values that flow: what was seen, what is wanted, what came of it.

Every array with a node axis is in the order of ``Topology.nodes``; everything
that names one node alone names it by its id. Arrays are read-only once inside
a value. Nothing here is one object per page or per VMA.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from numad_py.topology import Addresses, Bools, Floats, Ints, Topology


class RegionKind(IntEnum):
    """What a VMA holds, as numa_maps tells it."""

    ANON = 0
    FILE = 1
    HEAP = 2
    STACK = 3


class Mempolicy(IntEnum):
    """The kernel's memory policy of a VMA.

    ``OTHER`` is one this version does not know; ``UNKNOWN`` one that was not read, since that
    would have kept the process from its address space for too long.
    """

    DEFAULT = 0
    BIND = 1
    PREFERRED = 2
    INTERLEAVE = 3
    LOCAL = 4
    OTHER = 5
    UNKNOWN = 6


_FILE = int(RegionKind.FILE)  # comparing an array with an enum's member takes several times as long
_UNBOUND = np.isin(list(Mempolicy), (Mempolicy.DEFAULT, Mempolicy.LOCAL))


@dataclass(frozen=True, eq=False)
class Regions:
    """A process's VMAs as columns, ascending by ``start``; row i of each is one VMA.

    ``pages`` has the shape (regions, nodes) and counts pages of ``page_bytes``;
    ``anon_pages`` says how many of a row's pages are anonymous; ``mapmax`` is
    the highest number of processes that map any one page of the row. ``backing``
    numbers the memory that a row shares with other processes of its job and, as far
    as ``mapmax`` tells, with nobody else, and ``offset`` says at which of its bytes
    the row begins; both are 0 where there is none.
    """

    start: Addresses
    end: Addresses
    page_bytes: Ints
    kind: Ints
    mempolicy: Ints
    mapmax: Ints
    backing: Ints
    offset: Ints
    anon_pages: Ints
    pages: Ints

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def resident_bytes(self) -> Ints:
        """Shape (regions, nodes)."""
        return self.pages * self.page_bytes[:, None]

    @cached_property
    def unbound(self) -> Bools:
        """Rows whose placement nobody chose by a mempolicy."""
        unbound: Bools = _UNBOUND[self.mempolicy]
        return unbound

    @cached_property
    def movable(self) -> Bools:
        """The only rows that may ever be moved for one process alone: unbound, and no file that others map too."""
        own: Bools = (self.kind != _FILE) | (self.mapmax <= 1)
        return self.unbound & own

    @cached_property
    def shared(self) -> Bools:
        """The only rows that may ever be moved for all that map them."""
        return self.unbound & (self.backing > 0)

    @cached_property
    def is_shared(self) -> bool:
        """Whether any row is."""
        return bool(self.shared.any())

    @cached_property
    def movable_bytes(self) -> Ints:
        """Resident bytes of movable rows, by node."""
        by_node: Ints = (self.page_bytes * self.movable) @ self.pages
        return by_node

    def take(self, rows: Bools | Ints) -> "Regions":
        """Give the chosen rows."""
        return Regions(*(getattr(self, name)[rows] for name in REGION_COLUMNS))

    @staticmethod
    def empty(nodes: int) -> "Regions":
        """Give no regions on that many nodes."""
        addresses, columns = (
            np.zeros(0, np.uint64),
            dict.fromkeys(REGION_COLUMNS[2:-1], np.zeros(0, np.int64)),
        )
        return Regions(addresses, addresses, **columns, pages=np.zeros((0, nodes), np.int64))


REGION_COLUMNS = (
    *("start", "end", "page_bytes", "kind", "mempolicy", "mapmax", "backing", "offset"),
    *("anon_pages", "pages"),
)


@dataclass(frozen=True, eq=False)
class Threads:
    """The threads that ran since the last look, as columns.

    ``cpu_s`` is the CPU time used since the last look, ``cpu`` where the thread ran last.
    """

    tid: Ints
    cpu: Ints
    cpu_s: Floats


# 1.96 would be the normal 95 %; with 2.07 the bounds hold that often for every share and every number of samples.
_Z = 2.07


class AccessSource(StrEnum):
    """What saw the accesses."""

    HINT_FAULTS = "hint-faults"
    PEBS = "pebs"
    IBS = "ibs"
    SPE = "spe"
    DAMON = "damon"
    IDLE_PAGES = "idle-pages"


@dataclass(frozen=True, eq=False)
class ThreadGroup:
    """Threads that ran on the same node: who makes accesses, where single threads would be too many.

    Where threads cannot be told apart the whole process is one group and ``node`` is None;
    ``cpu_s`` is by node.
    """

    node: int | None
    tid: Ints
    cpu_s: Floats


@dataclass(frozen=True, eq=False)
class Accesses:
    """Who touched which memory of one process, in some seconds before the look.

    Rows are regions as the source cut them (not VMAs), ascending; ``counts`` has the shape
    (regions, groups) and counts what was seen: samples, or for DAMON the checks that found the
    region accessed, and for idle-page tracking its pages that were, by whomever: then the only group
    names nobody. ``checks`` of that many say how often one could have been seen; None where
    samples have no such bound. ``period_s`` is how long was watched.
    """

    source: AccessSource
    groups: tuple[ThreadGroup, ...]
    start: Addresses
    end: Addresses
    counts: Ints
    checks: int | None
    period_s: float

    def share_bounds(self) -> tuple[Floats, Floats]:
        """Bound each group's share of a region's accesses, with 95 % confidence; shape (regions, groups).

        These are Wilson's bounds with a continuity correction. They hold for independent samples, however
        few; without any, a share is between 0 and 1.
        """
        total = np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        share = self.counts / total
        middle, width = 2 * self.counts + _Z**2, 2 * (total + _Z**2)
        below = _Z**2 - 2 - 1 / total + 4 * share * (total * (1 - share) + 1)
        above = _Z**2 + 2 - 1 / total + 4 * share * (total * (1 - share) - 1)
        low = (middle - 1 - _Z * np.sqrt(np.maximum(below, 0))) / width
        high = (middle + 1 + _Z * np.sqrt(np.maximum(above, 0))) / width
        none = self.counts.sum(axis=1, keepdims=True) == 0
        low = np.where(none | (self.counts == 0), 0.0, np.maximum(low, 0))
        high = np.where(none | (self.counts == total), 1.0, np.minimum(high, 1))
        return low, high


class ProcessKey(NamedTuple):  # hashed at every turn, for every process, many times over
    """A process, safe against PID reuse; ``start_ticks`` is field 22 of /proc/PID/stat."""

    pid: int
    start_ticks: int


class PlacementSource(StrEnum):
    """How it was found out where a process's pages are."""

    NUMA_MAPS = "numa_maps"  # every page was counted
    PAGE_SAMPLE = "page-sample"  # some pages, drawn at random, were asked after


@dataclass(frozen=True, eq=False)
class Process:
    """One process of a job: where its threads ran and where its pages are.

    ``placement_age_s`` is how long ago ``regions`` were last known to be so, and ``cpu_age_s``
    how long ago ``threads`` were: both are read less often than there are looks.
    ``placement_error_share`` is the half width of the 95 % interval of any node's share of the
    resident bytes; 0 where every page was counted.
    ``gpus`` are the PCI addresses of the GPUs that it is known to use, ascending. ``accesses`` are told
    once, in the look in which an investigation of its job ended.
    """

    key: ProcessKey
    comm: str
    nodes_allowed: tuple[int, ...]
    threads: Threads
    regions: Regions
    placement_age_s: float
    cpu_age_s: float = 0.0
    placement_source: PlacementSource = PlacementSource.NUMA_MAPS
    placement_error_share: float = 0.0
    gpus: tuple[str, ...] = ()
    accesses: Accesses | None = None


@dataclass(frozen=True, eq=False)
class JobMemory:
    """What memory.numa_stat charges to a job, by node. It lies after late labelling."""

    anon_bytes: Ints
    file_bytes: Ints


@dataclass(frozen=True)
class JobCounters:
    """What the CPU's and the kernel's counters say of a job, over ``period_s``.

    ``counts`` is by event name, scaled where events took turns; one that was not counted is missing.
    ``stall_share`` is of the job's cycles: those in which a core waited for memory. ``verified`` says that
    calibration saw these events tell local from remote on this machine: others are shown, and not decided on.
    """

    period_s: float
    counts: Mapping[str, float]
    local_accesses: float | None = None
    remote_accesses: float | None = None
    stall_share: float | None = None
    memory_bound: bool | None = None
    verified: bool = False

    @property
    def remote_access_share(self) -> float | None:
        """DRAM accesses served by another node, of all; None where there were none, or none were counted."""
        if self.local_accesses is None or self.remote_accesses is None:
            return None
        every = self.local_accesses + self.remote_accesses
        return self.remote_accesses / every if every else None


@dataclass(frozen=True, eq=False)
class Job:
    """A labelled cgroup subtree. Its identity is the cgroup id, not the path.

    ``barrier`` says that its processes are ranks that wait for each other at every step; nobody can see that from
    outside. ``progress`` is how far its processes say that they came since they said so first, in a unit of their
    own, as of ``progress_age_s`` ago; None where none does.
    """

    cgroup_id: int
    path: str
    profile: str
    processes: tuple[Process, ...]
    memory: JobMemory | None
    counters: JobCounters | None = None
    barrier: bool = False
    progress: float | None = None
    progress_age_s: float = 0.0


@dataclass(frozen=True, eq=False)
class NodeMemory:
    """The state of every node's memory, as columns by node."""

    total_bytes: Ints
    free_bytes: Ints
    high_watermark_bytes: Ints
    file_bytes: Ints
    inactive_file_bytes: Ints
    dirty_bytes: Ints
    anon_bytes: Ints

    @property
    def clean_bytes(self) -> Ints:
        """Page cache that the kernel can drop at once: inactive, and written back."""
        clean: Ints = np.maximum(self.inactive_file_bytes - self.dirty_bytes, 0)
        return clean


@dataclass(frozen=True)
class Skipped:
    """A process that was not looked at, and why."""

    process: ProcessKey
    comm: str
    why: str


@dataclass(frozen=True)
class LookCost:
    """What looking costs the daemon, and what it put off in order not to cost more.

    ``cpu_s`` is of this look, ``core_share`` of the whole turns of the last minute, in cores, but for what
    moving took. ``postponed`` processes are those of which something was wanted in this look and not read. ``investigation_cpu_s`` is what the
    investigation took that ended with this look; it has a budget of its own.
    """

    cpu_s: float = 0.0
    core_share: float = 0.0
    postponed: tuple[ProcessKey, ...] = ()
    investigation_cpu_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One look at the machine. ``time_s`` is CLOCK_MONOTONIC, or simulated seconds."""

    time_s: float
    topology: Topology
    memory: NodeMemory
    jobs: tuple[Job, ...]
    skipped: tuple[Skipped, ...] = ()
    cost: LookCost = LookCost()

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """The processes of all jobs, in the order of the jobs."""
        return tuple(chain.from_iterable([job.processes for job in self.jobs]))

    @cached_property
    def row_of(self) -> Mapping[ProcessKey, int]:
        """Where a process stands in ``processes``, and in every column by process."""
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def keys(self) -> tuple[ProcessKey, ...]:
        """The keys of ``processes``, in their order."""
        return tuple([process.key for process in self.processes])

    @cached_property
    def cpu_read_s(self) -> Floats:
        """By process: when its threads were read."""
        return self.time_s - np.array([process.cpu_age_s for process in self.processes], np.float64)

    @cached_property
    def placed_s(self) -> Floats:
        """By process: when its pages were last known to be where they are."""
        return self.time_s - np.array([process.placement_age_s for process in self.processes], np.float64)

    @cached_property
    def cpu_s(self) -> Floats:
        """CPU seconds since the last look, shape (processes, nodes); CPUs of no node are left out."""
        return self.by_node(*self.threads)

    def by_node(self, row: Ints, cpu: Ints, figure: Floats) -> Floats:
        """Add up a figure of threads, as `threads` gives them, by process and node."""
        table, nodes = self.topology.index_of_cpu, len(self.topology.nodes)
        index = table[np.minimum(cpu, len(table) - 1)]
        known = index >= 0
        cells = np.bincount((row * nodes + index)[known], figure[known], len(self.processes) * nodes)
        return cells.astype(np.float64).reshape(-1, nodes)

    @cached_property
    def busiest_s(self) -> Floats:
        """By process: the CPU seconds since the last look of the thread that used most."""
        row, _, cpu_s = self.threads
        busiest_s = np.zeros(len(self.processes))
        np.maximum.at(busiest_s, row, cpu_s)
        return busiest_s

    @cached_property
    def threads(self) -> tuple[Ints, Ints, Floats]:
        """All threads as columns: the row of their process, CPU, CPU seconds."""
        every = [process.threads for process in self.processes]
        ran = [row for row, each in enumerate(every) if len(each.cpu)]  # few, where all is at rest
        row = np.repeat(np.array(ran, np.int64), [len(every[each].cpu) for each in ran])
        cpu = np.concatenate([np.zeros(0, np.int64), *(every[each].cpu for each in ran)])
        cpu_s = np.concatenate([np.zeros(0), *(every[each].cpu_s for each in ran)])
        return row, cpu, cpu_s

    @cached_property
    def movable_bytes(self) -> Ints:
        """Resident bytes that may ever be moved, shape (processes, nodes)."""
        rows = [process.regions.movable_bytes for process in self.processes]
        return np.array(rows, np.int64).reshape(-1, len(self.topology.nodes))

    @cached_property
    def unlabelled_anon_bytes(self) -> Ints:
        """Anonymous memory by node that belongs to no labelled job."""
        labelled = np.zeros(len(self.topology.nodes), np.int64)
        for process in self.processes:
            regions = process.regions
            labelled += regions.resident_bytes[regions.kind != _FILE].sum(axis=0)
        unlabelled: Ints = np.maximum(self.memory.anon_bytes - labelled, 0)
        return unlabelled


class Reason(StrEnum):
    """Why a policy wants a move."""

    MEMORY_FOLLOWS_CPU = "memory-follows-cpu"
    TASKS_FOLLOW_MEMORY = "tasks-follow-memory"
    SPREAD = "spread"
    MAKES_ROOM = "makes-room"  # for who is busy: its own process is idle
    TAKEN_BACK = "taken-back"  # the guard's own: what was moved did not help


@dataclass(frozen=True, eq=False)
class MovePages:
    """One wish: bring pages of one process from some nodes to others.

    ``start``, ``end`` and ``page_bytes`` are columns of address ranges, ascending.
    With one target every page goes there; with several, pages go to them in
    turn by address, so that asking twice moves nothing twice. ``whole`` says
    that these ranges are all the process has resident and that nobody outside
    its job maps any of it. ``figures`` decided it; their names carry units.
    ``among`` are the processes of its job, where pages are to move that several
    of them map: for all at once, if nobody else does.
    """

    process: ProcessKey
    start: Addresses
    end: Addresses
    page_bytes: Ints
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    limit_bytes: int
    reason: Reason
    whole: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
    among: tuple[ProcessKey, ...] = ()


@dataclass(frozen=True)
class MoveTasks:
    """One wish: let all threads of a process run on the CPUs of these nodes, and on no others."""

    process: ProcessKey
    nodes: tuple[int, ...]
    reason: Reason
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)


class Refusal(StrEnum):
    """Why the guard held a move back, or part of it."""

    NOT_ALLOWED = "target outside the cpuset"
    GPU_MEMORY = "target is a GPU's memory"
    NO_ROOM = "no room on the target"
    RATE = "rate limit"
    COOLDOWN = "cooling down after a move elsewhere"
    BACKOFF = "backing off after failures"
    TASKS = "tasks are not moved"
    UNKNOWN_PACE = "the job's own pace is not known yet"
    JUDGED = "what was moved is being judged"
    NO_HELP = "left alone since its last moves did not help"
    PHASES = "its phases are shorter than a move pays for itself"
    WITHHELD = "withheld, so that what moves save can be learned beside it"


@dataclass(frozen=True)
class Held:
    """Bytes of one process that the guard held back this tick."""

    process: ProcessKey
    bytes: int
    why: Refusal
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)


class Decision(StrEnum):
    """What a policy decided of one process."""

    MOVE = "move"  # what it has elsewhere should come now
    WAIT = "wait"  # it should, once that was so for some looks more
    STAY = "stay"  # it is well where it is
    NO_EVIDENCE = "no evidence"  # it ran too little, or on too many nodes, to tell
    UNTOLD = "not told"  # the policy does not explain itself


@dataclass(frozen=True)
class Compared:
    """A figure, and the limit that it was held against, by their names, which carry units."""

    figure: str
    value: float
    limit: str
    limit_value: float


@dataclass(frozen=True)
class Explanation:
    """What was decided of one process at the last look, by what figures, and what the guard held back of it.

    ``targets`` are the nodes where its memory belongs; ``more_looks`` like the last are waited for; ``notes`` are
    sentences on what these figures leave out.
    """

    decision: Decision
    compared: tuple[Compared, ...] = ()
    targets: tuple[int, ...] = ()
    more_looks: int = 0
    held: tuple[Held, ...] = ()
    notes: tuple[str, ...] = ()


class Verdict(StrEnum):
    """What the guard found of a job after its pages or tasks were moved."""

    HELPED = "helped"
    NO_DIFFERENCE = "no difference"  # none that is larger than the job's own variation
    UNVERIFIED = (
        "unverified"  # nothing tells: the job reports nothing, no counter is verified, or too little was seen
    )
    TAKEN_BACK = "taken back"  # it became slower
    PING_PONG = "ping-pong"  # pages went back and forth: taken back too
    GAVE_WAY = "gave way"  # somebody else moved pages away again that had been placed


@dataclass(frozen=True)
class Judged:
    """What the guard found of the last moves of a job; ``figures`` as of a move."""

    cgroup_id: int
    verdict: Verdict
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, eq=False)
class Plan:
    """All wishes of one tick, most valuable first, what the guard held back, and what it found of earlier moves."""

    moves: tuple[MovePages, ...] = ()
    held: tuple[Held, ...] = ()
    task_moves: tuple[MoveTasks, ...] = ()
    judged: tuple[Judged, ...] = ()


class Ending(StrEnum):
    """How a move ended."""

    DONE = "done"  # every page of the ranges was dealt with
    LIMIT = "limit"  # limit_bytes arrived
    DEADLINE = "deadline"  # time was up; ``reached`` says how far it got
    NO_ROOM = "no-room"  # the target would have had to reclaim what is in use
    GONE = "gone"  # the process ended
    UNKNOWN = "unknown"  # the process exec'd meanwhile: what moved cannot be known
    STUCK = "stuck"  # a call did not return; the process is set aside
    REFUSED = "refused"  # the kernel or the process's cpuset said no
    DRY_RUN = "dry-run"  # nothing was tried


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one move, of pages or of tasks.

    ``moved_bytes`` were verified on their target; ``failed`` counts pages by the kernel's
    errno name, or ``unmovable`` for pages that stayed after two tries (pinned, most often);
    ``stayed_start`` and ``stayed_end`` are where those are; ``reached`` is the address below which
    every page was dealt with; ``call_s`` is the time of each moving call. ``moved_threads`` were given other
    CPUs; of a move of tasks ``failed`` counts threads, by why they were left as they were.
    """

    ending: Ending
    moved_bytes: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    stayed_start: Addresses = field(default_factory=lambda: np.zeros(0, np.uint64))
    stayed_end: Addresses = field(default_factory=lambda: np.zeros(0, np.uint64))
    reached: int = 0
    took_s: float = 0.0
    call_s: tuple[float, ...] = ()
    detail: str = ""
    moved_threads: int = 0


@dataclass(frozen=True, eq=False)
class Tick:
    """One turn of the loop; ``outcomes`` answer ``plan.moves`` one by one, and ``task_outcomes`` ``plan.task_moves``.

    A trace of version 1.0 or older tells no ``task_outcomes``.
    """

    snapshot: Snapshot
    plan: Plan
    outcomes: tuple[Outcome, ...]
    task_outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Why a process is left alone for a while: where it was moved and when, and what failed since."""

    targets: tuple[int, ...] = ()
    moved_s: float = 0.0
    reversals: int = 0
    failures: int = 0
    quiet_until_s: float = 0.0


@dataclass(frozen=True)
class Whence:
    """Where a process had its pages before they were moved: of regions by their ``start``, by node."""

    process: ProcessKey
    start: tuple[int, ...]
    pages: tuple[tuple[int, ...], ...]
    among: tuple[ProcessKey, ...] = ()


@dataclass(frozen=True)
class Unjudged:
    """Moves of a job that are not judged yet, or are being taken back until ``back_until_s``; its speeds before."""

    cgroup_id: int
    began_s: float
    moved_s: float
    speeds: tuple[float, ...]
    whence: tuple[Whence, ...]
    back_until_s: float = 0.0


@dataclass(frozen=True)
class Waits:
    """Who is left alone for a while, and whose moves are not judged yet; what outlives a restart.

    That is processes, their pages and their tasks, and by cgroup id jobs of which moves were taken back.
    """

    pages: tuple[tuple[ProcessKey, Wait], ...] = ()
    tasks: tuple[tuple[ProcessKey, Wait], ...] = ()
    jobs: tuple[tuple[int, Wait], ...] = ()
    unjudged: tuple[Unjudged, ...] = ()

    def __add__(self, more: "Waits") -> "Waits":
        return Waits(
            self.pages + more.pages,
            self.tasks + more.tasks,
            self.jobs + more.jobs,
            self.unjudged + more.unjudged,
        )
