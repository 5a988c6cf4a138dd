# SPDX-License-Identifier: Apache-2.0

"""What a job's processes share goes, part by part, to the node of those who use the part.

Problem: each of them would have all of it at home, and it can only be in one place.
Primitive: the heat of each part by node, from what an investigation told of every process that maps it and
from where these are at home. Before one has told anything, each is taken to use all that it maps alike, and after a
while who never ran, nothing. So it is again once those who came later use too much for what was told to hold.
Application: a part goes where nearly all of its heat is, all of it where nothing was told; once, by the
process there that uses it most; if that pays for itself soon, by the cores that use it now. What is decided here is
nobody's alone, and others leave it out.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from numad_py import prices
from numad_py.model import (
    Accesses,
    AccessSource,
    Ending,
    Job,
    MovePages,
    Process,
    ProcessKey,
    Reason,
    Regions,
    Snapshot,
    Tick,
)
from numad_py.policies import shards
from numad_py.policies.spreading import Spreading, Use
from numad_py.policies.wishes import Weigh, Wish
from numad_py.topology import Addresses, Bools, Floats, Ints, Topology

PARTS: Final = 512  # of what is shared, at most
LEAST_PART_BYTES: Final = 2 << 20
UNDECIDED_S: Final = (
    30.0  # for which it waits to be told who uses what; then each may have what is its own there
)
WATCHED_S: Final = 10.0  # by an investigation, of those that there were when it began
AGAIN_S: Final = 600.0  # after which what was dealt with is gone through again; investigations come as often
SEVERAL: Final = -1  # nodes that a process runs on


@dataclass(frozen=True)
class _Home:
    """The node that a process ran on, by position, and for how many looks in a row."""

    node: int
    looks: int


@dataclass(frozen=True, eq=False)
class _Part:
    """Ranges of one process's rows that are to go to one node, how many of their bytes are elsewhere, and who uses them.

    Where bytes of a part lie is not known: they are taken to lie as those of the whole rows do.
    """

    mover: Process
    target: int
    start: Addresses
    end: Addresses
    page_bytes: Ints
    away_bytes: Ints  # by node, at most
    resident_bytes: int  # of these rows
    heat_share: float
    cores: Floats  # by node, as far as they reach for these ranges

    @property
    def limit_bytes(self) -> int:
        return min(int(self.away_bytes.sum()), int((self.end - self.start).sum()))

    @property
    def cost_ns(self) -> float:
        length = self.end - self.start
        price_ns = float(length @ prices.move_ns_per_byte(self.page_bytes)) / max(int(length.sum()), 1)
        return self.limit_bytes * price_ns

    def saving_ns_per_s(self, on: Topology) -> float:
        waited = self.cores @ prices.ratios(on)
        nearer = self.away_bytes @ (waited - waited[self.target]) / max(self.resident_bytes, 1)
        return float(nearer) * 1e9 * prices.MEMORY_SHARE


class SharedMemory:
    """Remembers who uses what, where that runs, and what was dealt with."""

    def __init__(
        self,
        *,
        heat_share_above: float,
        patience: int,
        least_mb: float,
        least_cpu_s: float,
        pays_within_s: float,
        weigh: Weigh,
    ) -> None:
        self._heat_share_above = heat_share_above
        self._patience = patience
        self._least_bytes = least_mb * 2**20
        self._least_cpu_s = least_cpu_s
        self._pays_within_s = pays_within_s
        self._weigh = weigh
        self._spreading: dict[int, Spreading] = {}
        self._accesses: dict[ProcessKey, Accesses] = {}
        self._first_s: dict[ProcessKey, float] = {}
        self._came_later: dict[ProcessKey, bool] = {}  # than its job was told of last
        self._cores: dict[ProcessKey, Floats] = {}
        self._node_ids: tuple[int, ...] = ()
        self._homes: dict[ProcessKey, _Home] = {}
        self._since_s: dict[int, float] = {}
        self._wished: dict[tuple[ProcessKey, tuple[int, ...]], bytes] = {}
        self._dealt_with: dict[tuple[ProcessKey, tuple[int, ...]], tuple[bytes, float]] = {}

    @property
    def is_any(self) -> bool:
        """Whether any job shared memory at the last look."""
        return bool(self._since_s)

    def decide(
        self, snapshot: Snapshot, nodes: Ints, cores: Floats, fresh: Bools, computing: Collection[int]
    ) -> tuple[list[MovePages], Snapshot]:
        """Give moves of what is shared, and the snapshot without it.

        By process there are ``nodes`` as ``_Home`` has them, how many ``cores`` of each it used, and whether that was
        read now; ``computing`` are the jobs that memory does not hold back.
        """
        if snapshot.topology.node_ids != self._node_ids:  # some came or went, and positions mean others
            self._homes, self._cores, self._node_ids = {}, {}, snapshot.topology.node_ids
        self._learn(snapshot, nodes)
        self._cores = {
            key: cores[row] if fresh[row] else self._cores.get(key, cores[row])
            for row, key in enumerate(snapshot.keys)
        }
        self._wished = {}
        sharing = {job.cgroup_id: found for job in snapshot.jobs if (found := _sharing(job))}
        now_s, on = snapshot.time_s, snapshot.topology
        self._since_s = {job: self._since_s.get(job, now_s) for job in sharing}
        self._spreading = {job: self._spreading.get(job) or Spreading(self._weigh) for job in sharing}
        if not sharing:
            return [], snapshot
        moves: list[MovePages] = []
        jobs = {job.cgroup_id: job for job in snapshot.jobs}
        read = {snapshot.keys[row] for row in np.flatnonzero(fresh).tolist()}
        use = Use(self._cores, read, computing)
        for number, processes in sharing.items():
            early = now_s < self._since_s[number] + UNDECIDED_S
            backings = self._backings(processes)
            parts = {each: list(self._parts(each, processes, on, early=early)) for each in backings}
            moves += self._moves([part for each in parts.values() for part in each], jobs[number], snapshot)
            nobodys = [each for each, found in parts.items() if not found and not early]
            spread = dict(self._spreading[number].decide(nobodys, jobs[number], use, on))
            moves += [move for move in spread.values() if move]
            jobs[number] = _without(
                jobs[number], [each for each in parts if each not in nobodys or each in spread]
            )
        return moves, replace(snapshot, jobs=tuple(jobs.values()))

    def review(self, tick: Tick) -> None:
        """Note what was dealt with to the end."""
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            wish = move.process, move.targets
            if move.among and outcome.ending is Ending.DONE and wish in self._wished:
                self._dealt_with[wish] = self._wished[wish], tick.snapshot.time_s

    def _learn(self, snapshot: Snapshot, nodes: Ints) -> None:
        accesses, homes = self._accesses, self._homes
        self._accesses, self._homes = {}, {}
        now_s, known_s = snapshot.time_s, self._first_s
        new_s = now_s if known_s else -np.inf  # who is there at our first look may be older
        self._first_s = {key: known_s.get(key, new_s) for key in snapshot.keys}
        self._came_later = {
            process.key: self._came_later.get(process.key, True)
            and not (is_told and (_told(process) or self._first_s[process.key] <= now_s - WATCHED_S))
            for job in snapshot.jobs
            for is_told in [any(_told(each) for each in job.processes)]
            for process in job.processes
        }
        ran = snapshot.cpu_s.sum(axis=1) >= self._least_cpu_s
        for process, node, has_run in zip(snapshot.processes, nodes.tolist(), ran.tolist(), strict=True):
            key = process.key
            if told := _told(process) or accesses.get(key):
                self._accesses[key] = _where_it_runs(told, process, snapshot.topology)
            home = homes.get(key)
            if has_run:
                home = _Home(node, home.looks + 1 if home and home.node == node else 1)
            if home:
                self._homes[key] = home
        self._dealt_with = {wish: seen for wish, seen in self._dealt_with.items() if wish[0] in self._homes}

    def _backings(self, sharing: Sequence[Process]) -> list[int]:
        """Give what is shared and large enough."""
        found: set[int] = set()
        for regions in (process.regions for process in sharing):
            large = regions.pages.sum(axis=1) * regions.page_bytes >= self._least_bytes
            found.update(regions.backing[regions.shared & large].tolist())
        return sorted(found)

    def _parts(
        self, backing: int, sharing: Sequence[Process], on: Topology, *, early: bool
    ) -> Iterator[_Part]:
        """Give the parts of a backing for which it is sure where they belong."""
        edges = _edges(backing, sharing)
        told = self._is_told(backing, sharing)
        asked = [process for process in sharing if told or early or process.key in self._homes]
        if not asked:
            return
        heat = np.array([self._heat(process, backing, edges, on, told=told) for process in asked])
        users = zip(asked, heat, strict=True)
        cores = np.sum([self._using(user, backing, its, told=told) for user, its in users], axis=0)
        by_node, every = heat.sum(axis=0)[:-1], heat.sum(axis=(0, 1))
        target = by_node.argmax(axis=0)
        share = by_node.max(axis=0) / np.maximum(every, 1e-9)
        sure = (every > 0) & (share >= (self._heat_share_above if told else 1.0))
        mover = heat[:, target, np.arange(len(target))].argmax(axis=0)
        for index, node in sorted({*zip(mover[sure].tolist(), target[sure].tolist(), strict=True)}):
            chosen = sure & (mover == index) & (target == node)
            turns = np.flatnonzero(np.diff(np.concatenate(([0], chosen, [0]))))
            yield _part(
                asked[index],
                backing,
                edges[turns].reshape(-1, 2),
                node,
                on,
                heat_share=float(share[chosen].mean()),
                cores=cores[:, chosen].sum(axis=1),
            )

    def _is_told(self, backing: int, sharing: Sequence[Process]) -> bool:
        """Say whether it was told who uses what, and few use it who came later: they would seem to use nothing."""
        if not any(process.key in self._accesses for process in sharing):
            return False
        users = [process.key for process in sharing if _rows(process, backing)]
        cores, later = (
            sum(float(self._cores[key].sum()) for key in keys)
            for keys in (users, [key for key in users if self._came_later[key]])
        )
        return later <= (1 - self._heat_share_above) * cores

    def _using(self, process: Process, backing: int, heat: Floats, *, told: bool) -> Floats:
        """Give by node and part how many cores of a process use it: the rest of its time goes to what else it has."""
        if told:
            accesses = self._accesses.get(process.key)
            every = _weights(accesses).sum() if accesses else 0.0
        else:
            held = process.regions.resident_bytes.sum(axis=1)
            every = heat.sum() * held.sum() / max(int(held[_rows(process, backing)].sum()), 1)
        using: Floats = heat[:-1] * self._cores[process.key].sum() / max(float(every), 1e-9)
        return using

    def _heat(self, process: Process, backing: int, edges: Ints, on: Topology, *, told: bool) -> Floats:
        """Give a process's heat by node and part; the last row is of where it is at no home."""
        heat = np.zeros((len(on.nodes) + 1, len(edges) - 1))
        home, accesses = self._homes.get(process.key), self._accesses.get(process.key)
        settled = home.node if home and home.looks >= self._patience else SEVERAL
        near = dict(zip(on.node_ids, on.memory_of.tolist(), strict=True))
        for row in _rows(process, backing):
            at = np.clip(edges, *_span(process.regions, row)) - int(process.regions.offset[row])
            at += int(process.regions.start[row])
            if not told:
                heat[settled] += np.diff(at)
            elif accesses:
                for group, each in enumerate(accesses.groups):
                    node = settled if each.node is None else near.get(each.node, SEVERAL)  # it may be gone
                    heat[node] += _seen(accesses, group, at)
        return heat

    def _moves(self, parts: Sequence[_Part], job: Job, snapshot: Snapshot) -> Iterator[MovePages]:
        """Give a move for each process and target, but for what was dealt with."""
        among = tuple(process.key for process in job.processes)
        for mover, target in sorted({(part.mover.key, part.target) for part in parts}):
            own = [part for part in parts if (part.mover.key, part.target) == (mover, target)]
            move = _move(own, among, snapshot.topology)
            wish, ranges = (mover, move.targets), move.start.tobytes() + move.end.tobytes()
            self._wished[wish] = ranges
            seen, seen_s = self._dealt_with.get(wish, (b"", 0.0))
            again = ranges != seen or snapshot.time_s >= seen_s + AGAIN_S
            again &= move.figures["payback_s"] <= self._pays_within_s
            if again and move.limit_bytes >= self._least_bytes:
                yield move


def _sharing(job: Job) -> list[Process]:
    return [each for each in job.processes if each.regions.is_shared]


def _rows(process: Process, backing: int) -> list[int]:
    regions = process.regions
    return np.flatnonzero(regions.shared & (regions.backing == backing)).tolist()


def _span(regions: Regions, row: int) -> tuple[int, int]:
    """Give where in its backing a row begins and ends."""
    offset = int(regions.offset[row])
    return offset, offset + int(regions.end[row] - regions.start[row])


def _edges(backing: int, sharing: Sequence[Process]) -> Ints:
    """Cut what is mapped of a backing into parts alike."""
    spans = [_span(each.regions, row) for each in sharing for row in _rows(each, backing)]
    first, last = min(low for low, _ in spans), max(high for _, high in spans)
    step = -(-(last - first) // PARTS // LEAST_PART_BYTES) * LEAST_PART_BYTES or LEAST_PART_BYTES
    return np.append(np.arange(first, last, step), last)


def _told(process: Process) -> Accesses | None:
    """Give what an investigation told of who uses what."""
    told = process.accesses
    return None if told is None or told.source is AccessSource.IDLE_PAGES else told  # which do not tell who


def _where_it_runs(told: Accesses, process: Process, on: Topology) -> Accesses:
    """Take threads that have left the node where they were seen to be, until they are told of anew, where the process is."""
    groups = tuple(
        replace(each, node=None) if each.node is not None and shards.has_left(each, process, on) else each
        for each in told.groups
    )
    return replace(told, groups=groups)


def _weights(accesses: Accesses) -> Floats:
    """Give how much was seen of each group in each region."""
    # Checks find a page accessed or not, so their count is as if for each page; samples are of the region.
    each = 1 if accesses.checks is None else (accesses.end - accesses.start)[:, None]
    weights: Floats = accesses.counts.astype(np.float64) * each
    return weights


def _seen(accesses: Accesses, group: int, at: Ints) -> Floats:
    """Give how much was seen of a group between each two addresses, if it is spread evenly over each region."""
    weight = _weights(accesses)[:, group]
    ends = np.stack([accesses.start, accesses.end], axis=1).ravel().astype(np.float64)
    up_to = np.repeat(np.append(0.0, weight.cumsum()), 2)[1:-1]
    return np.diff(np.interp(at, ends, up_to)) if len(ends) else np.zeros(len(at) - 1)


def _part(
    mover: Process,
    backing: int,
    spans: Ints,
    target: int,
    on: Topology,
    *,
    heat_share: float,
    cores: Floats,
) -> _Part:
    """Find these spans of a backing in the address space of a process."""
    regions, ranges = mover.regions, []
    away = on.may_leave & (np.arange(len(on.nodes)) != target)
    resident_bytes = np.zeros(len(on.nodes), np.int64)
    for row in _rows(mover, backing):
        begin = int(regions.start[row]) - int(regions.offset[row])
        cut = np.clip(spans, *_span(regions, row)) + begin
        cut = cut[cut[:, 0] < cut[:, 1]]
        ranges.append(np.column_stack([cut, np.full(len(cut), regions.page_bytes[row])]))
        resident_bytes += regions.resident_bytes[row] * bool(len(cut))
    start, end, page_bytes = np.concatenate(ranges).T
    return _Part(
        mover,
        target,
        start.astype(np.uint64),
        end.astype(np.uint64),
        page_bytes,
        resident_bytes * away,
        int(resident_bytes.sum()),
        heat_share,
        cores,
    )


def _move(parts: Sequence[_Part], among: tuple[ProcessKey, ...], on: Topology) -> MovePages:
    """Make one move of all parts that one process moves to one node."""
    start, end, page_bytes = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "end", "page_bytes")
    )
    order = np.argsort(start, kind="stable")
    away = np.sum([part.away_bytes for part in parts], axis=0)
    first, limit_bytes = parts[0], sum(part.limit_bytes for part in parts)
    targets, access_share = (on.nodes[first.target].id,), float(np.mean([part.heat_share for part in parts]))
    wish = Wish(
        targets,
        told=True,
        remote_bytes=limit_bytes,
        remote_share=access_share,
        saving_ns_per_s=sum(part.saving_ns_per_s(on) for part in parts),
        cost_ns=sum(part.cost_ns for part in parts),
        confidence=1 - first.mover.placement_error_share,
    )
    return MovePages(
        first.mover.key,
        start[order],
        end[order],
        page_bytes[order],
        sources=tuple(node.id for node, held in zip(on.nodes, away, strict=True) if held),
        targets=targets,
        limit_bytes=limit_bytes,
        reason=Reason.MEMORY_FOLLOWS_CPU,
        figures={
            "access_share": access_share,
            "remote_mb": limit_bytes / 2**20,
            "processes": float(len(among)),
            "saving_ns_per_s": wish.saving_ns_per_s,
            "cost_ns": wish.cost_ns,
            "payback_s": wish.payback_s,
        },
        among=among,
    )


def _without(job: Job, backings: Sequence[int]) -> Job:
    """Leave out the rows of these backings."""

    def rest(process: Process) -> Process:
        left_out = process.regions.shared & np.isin(process.regions.backing, backings)
        return replace(process, regions=process.regions.take(~left_out)) if left_out.any() else process

    return replace(job, processes=tuple(map(rest, job.processes)))
