# SPDX-License-Identifier: Apache-2.0

"""What a trace demands of a machine: everything but where the recorded policy put the pages.

Problem: a recorded day shows what its own policy did. Another policy must not inherit that.

Primitive: of every tick only the demand is read: which processes exist, where their threads ran, how large
each region is. Placement is read once per process, at the first look that shows its regions.

Application: one `Recording` is advanced once per recorded tick and feeds any number of `ReplayedMachine`.

Everyone else's memory (other processes, page cache, kernel) is followed without placement too: by node it is
what was in use at the first tick less what the jobs had there; afterwards each node adds the change of its own
page cache, and the rest of the change of the machine's total is spread as at the first tick.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from numad_py.model import Accesses, NodeMemory, Process, ProcessKey, RegionKind, Regions, Snapshot, Tick
from numad_py.sim.placement import PARTS, Kinship, kinship
from numad_py.sim.reach import cut
from numad_py.topology import Ints

_FILE = int(RegionKind.FILE)
MOST_LEFT = 1024  # processes that left and are remembered: memory must not grow with the trace
LONGEST_TURN_S = 10.0  # between two ticks; what lies further apart was not looked at for a while
START_TICKS_PER_S = 100  # USER_HZ, the unit of field 22 of /proc/PID/stat; 100 on x86-64 and arm64


@dataclass(frozen=True, eq=False)
class Rows:
    """A process's regions, to be read without their placement."""

    recorded: Regions

    @cached_property
    def pages(self) -> Ints:
        """Resident pages by row, wherever they are."""
        pages: Ints = self.recorded.pages.sum(axis=1)
        return pages

    @cached_property
    def private_bytes(self) -> tuple[int, int]:
        """Resident bytes of rows that no second process maps: all, and without file pages."""
        every, anon = self._private_page_bytes @ self.pages
        return int(every), int(anon)

    def private_by_node(self, pages: Ints) -> Ints:
        """Give the same by node, with that placement: shape (2, nodes)."""
        by_node: Ints = self._private_page_bytes @ pages
        return by_node

    @cached_property
    def _private_page_bytes(self) -> Ints:
        private = self.recorded.page_bytes * (self.recorded.mapmax <= 1)
        return np.array([private, private * (self.recorded.kind != _FILE)])

    def starts_as(self, other: "Rows") -> bool:
        """Whether both have the same rows, which may have grown, shrunk or changed in what they hold."""
        mine, its = self.recorded, other.recorded
        return np.array_equal(mine.start, its.start) and np.array_equal(mine.page_bytes, its.page_bytes)


@dataclass(eq=False, slots=True)
class Wanted:
    """One process as the trace demands it now.

    ``first_pages`` is its placement, given once. ``kin`` says which earlier rows the present ones
    continue; None where each continues its own. ``cpu_parts`` are shares of its CPU time by node, of `PARTS`;
    a process that sleeps keeps its last. ``rows`` are the recorded regions; once an investigation told who touches
    what, in ``accesses``, they are cut where that changes.
    """

    process: Process
    recorded: Regions
    rows: Rows
    cpu_parts: Ints
    allowed: NDArray[np.bool_]
    seen: bool = False
    first_pages: Ints | None = None
    kin: Kinship | None = None
    accesses: Accesses | None = None


class EveryoneElse:
    """Memory in use by node that belongs to no process of the jobs."""

    def __init__(self, memory: NodeMemory) -> None:
        self._file = memory.file_bytes
        self._base = np.stack([memory.total_bytes - memory.free_bytes, memory.anon_bytes])

    def leave_out(self, first_by_node: Ints) -> None:
        """Take away what turned out to be a job's: memory that was in use before its process was seen.

        Where less was in use than it has, it came after the first tick; an anonymised trace does not tell.
        """
        left = self._base - first_by_node
        if (left[0] >= 0).all():
            self._base = np.maximum(left, 0)

    def by_node(self, memory: NodeMemory, jobs_bytes: Ints) -> Ints:
        """Give all use, and anonymous use alone: shape (2, nodes). ``jobs_bytes`` are the jobs' sums of both."""
        cache = memory.file_bytes - self._file
        known = self._base + np.stack([cache, np.zeros_like(cache)])
        used = np.array([(memory.total_bytes - memory.free_bytes).sum(), memory.anon_bytes.sum()])
        rest = used - jobs_bytes - known.sum(axis=1)
        shares = self._base / np.maximum(self._base.sum(axis=1, keepdims=True), 1)
        by_node: Ints = np.maximum(known + np.rint(shares * rest[:, None]).astype(np.int64), 0)
        return by_node


class Recording:
    """The present tick of a trace, as demand; advanced once, read by every machine that replays it.

    ``wanted`` are the processes of now; ``changed`` those that were not there at the last tick, or had other regions,
    and ``gone`` those that were there and are no more; ``left`` are the last to have left. ``turn_s`` is the time since
    the last tick.
    """

    def __init__(self) -> None:
        self.ended = False
        self.wanted: dict[ProcessKey, Wanted] = {}
        self.changed: list[ProcessKey] = []
        self.gone: list[ProcessKey] = []
        self.left: dict[ProcessKey, Wanted] = {}
        self._else: EveryoneElse | None = None
        self._time_s = -np.inf
        self.turn_s = LONGEST_TURN_S

    def advance(self, tick: Tick) -> None:
        """Go on to the next recorded tick; its plan and outcomes are not looked at."""
        self.snapshot: Snapshot = tick.snapshot
        self.turn_s = min(tick.snapshot.time_s - self._time_s, LONGEST_TURN_S)
        processes, cpu_s = self.snapshot.processes, self.snapshot.cpu_s
        used_s = cpu_s.sum(axis=1)
        parts = np.rint(cpu_s / np.maximum(used_s, 1e-9)[:, None] * PARTS).astype(np.int64)
        before, self.wanted, self.changed = self.wanted, {}, []
        for process, ran, cpu_parts in zip(processes, (used_s > 0).tolist(), parts, strict=True):
            last = before.pop(process.key, None)
            known = last or self.left.pop(process.key, None) or self._stranger(process)
            if ran:
                known.cpu_parts = cpu_parts
            if self._update(known, process) or last is None:
                self.changed.append(process.key)
            self.wanted[process.key] = known
        self._remember(before)
        self.others = self._others()
        self._time_s = self.snapshot.time_s

    def end(self) -> None:
        """Say that there are no more ticks."""
        self.ended = True

    def _stranger(self, process: Process) -> Wanted:
        """Give what is known of a process before its first look: it is taken to run on the first node it may use."""
        on = self.snapshot.topology
        parts = np.zeros(len(on.nodes), np.int64)
        parts[on.index_of.get(min(process.nodes_allowed, default=-1), 0)] = PARTS
        none = Regions.empty(len(on.nodes))
        return Wanted(process, none, Rows(none), parts, self._allowed(process))

    def _update(self, known: Wanted, process: Process) -> bool:
        """Bring what is known of a process up to now, and say whether its regions changed."""
        if known.process.nodes_allowed != process.nodes_allowed:
            known.allowed = self._allowed(process)
        known.first_pages = None
        known.process = process
        if known.recorded is process.regions and process.accesses is None:
            return False
        known.recorded, known.accesses = process.regions, process.accesses or known.accesses
        regions = cut(process.regions, known.accesses) if known.accesses else process.regions
        old, known.rows = known.rows, Rows(regions)
        known.first_pages = None if known.seen else regions.pages
        known.kin = None if known.rows.starts_as(old) else kinship(old.recorded, regions)
        known.seen = known.seen or len(process.regions) > 0
        return True

    def _allowed(self, process: Process) -> NDArray[np.bool_]:
        return np.isin(self.snapshot.topology.node_ids, process.nodes_allowed)

    def _remember(self, gone: Mapping[ProcessKey, Wanted]) -> None:
        """Keep the last to leave: one that was only skipped for a look must not be taken for new when it is back."""
        self.gone = list(gone)
        self.left.update(gone)
        for key in list(self.left)[: max(len(self.left) - MOST_LEFT, 0)]:
            del self.left[key]

    def _others(self) -> Ints:
        memory = self.snapshot.memory
        first_tick = self._else is None
        everyone_else = self._else = self._else or EveryoneElse(memory)
        for key in self.changed:
            wanted = self.wanted[key]
            there_before = first_tick or key.start_ticks / START_TICKS_PER_S < self._time_s
            if wanted.first_pages is not None and there_before:
                everyone_else.leave_out(wanted.rows.private_by_node(wanted.first_pages))
        held = [wanted.rows.private_bytes for wanted in self.wanted.values()]
        return everyone_else.by_node(memory, np.array(held, np.int64).reshape(-1, 2).sum(axis=0))
