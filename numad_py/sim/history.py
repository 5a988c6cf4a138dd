# SPDX-License-Identifier: Apache-2.0

"""What a run came to over time, in a size that does not grow with the run.

Problem: a reader wants to see when memory was where, which regions were remote, and what each move was for; a day has
too many looks, regions and moves for any page.

Primitive: sums over columns of time. Of jobs and regions the largest are kept, of moves those that moved most. Sizes
are the trace's demand and no policy's doing, so every policy's run keeps the same jobs and regions, and pictures of
them can stand side by side.

Application: one `Historian` per run is fed beside the `Scorer`, where a report is wanted.

Units: seconds since the first tick, bytes; shares are 0 to 1. Arrays have the shape (columns, ...).
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from numad_py.model import Job, MovePages, Outcome, Process, Snapshot, Tick
from numad_py.sim.columns import POINTS, Columns, fold, ratio
from numad_py.sim.cost import Prices
from numad_py.sim.regional import Regional, RegionHistory
from numad_py.sim.use import Use, Users
from numad_py.topology import Floats

MOST_JOBS: Final = 12
MOST_MOVES: Final = 40
OTHERS: Final = "all other jobs"


@dataclass(frozen=True, eq=False)
class JobHistory:
    """Resident bytes by column and node; ``cgroup_id`` is None for the jobs that are not kept one by one."""

    path: str
    cgroup_id: int | None
    bytes_by_node: Floats


@dataclass(frozen=True)
class Moved:
    """One move. ``saves_share`` is the CPU time saved from then on, per second, while its process runs as it did.

    It is modelled, and None where nothing says how much the process runs.
    """

    time_s: float
    cgroup_id: int
    path: str
    comm: str
    pid: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    reason: str
    bytes: int
    took_s: float
    ending: str
    saves_share: float | None

    @property
    def paid_back_s(self) -> float | None:
        """After how long it has saved what it took; None where it never does, or where that is not known."""
        return self.took_s / self.saves_share if self.saves_share and self.saves_share > 0 else None


@dataclass(frozen=True, eq=False)
class History:
    """One run. ``edges_s`` has the beginning of every column, and the end of the last; NaN is for what nothing tells.

    ``moves`` are in the order of time; ``decided`` counts those too that are not kept.
    """

    node_ids: tuple[int, ...]
    edges_s: Floats
    local_share: Floats
    jobs: tuple[JobHistory, ...]
    regions: tuple[RegionHistory, ...]
    moves: tuple[Moved, ...]
    decided: int


@dataclass(eq=False)
class _JobSums:
    path: str
    sums: Floats
    peak_bytes: int = 0

    def add(self, column: int, bytes_by_node: Floats) -> None:
        self.sums[column] += bytes_by_node
        self.peak_bytes = max(self.peak_bytes, int(bytes_by_node.sum()))


@dataclass(eq=False)
class _Moves:
    """The moves that moved most, of all that were made."""

    decided: int = 0
    heap: list[tuple[int, int, Moved]] = field(default_factory=list)

    def add(self, moved: Moved) -> None:
        self.decided += 1
        heapq.heappush(self.heap, (moved.bytes, -self.decided, moved))
        if len(self.heap) > MOST_MOVES:
            heapq.heappop(self.heap)

    @property
    def kept(self) -> tuple[Moved, ...]:
        return tuple(moved for _, _, moved in sorted(self.heap, key=lambda entry: -entry[1]))


class Historian:
    """Takes the ticks of one run, and keeps no more of them than a page can show."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._users = Users(len(prices.latency_ns))
        self._columns = Columns()
        self._regional = Regional()
        self._moves = _Moves()
        self._local = np.zeros((POINTS, 2))  # bytes at home, and all that have a home
        self._jobs: dict[int, _JobSums] = {}
        self._others = _JobSums(OTHERS, np.zeros((POINTS, 0)))
        self._node_ids: tuple[int, ...] = ()
        self._first_s: float | None = None
        self._time_s = 0.0

    def add(self, tick: Tick) -> None:
        """Take one tick."""
        snapshot = tick.snapshot
        if self._first_s is None:
            self._begin(snapshot)
        time_s = snapshot.time_s - (self._first_s or 0.0)
        elapsed_s, self._time_s = time_s - self._time_s, time_s
        column = self._column(time_s)
        use = self._users.look(snapshot)
        self._local[column] += use.local_bytes.sum(), use.known_bytes.sum()
        for job in snapshot.jobs:
            self._add_job(job, column)
        self._regional.add(snapshot, use.home, column, time_s)
        if tick.plan.moves:
            self._add_moves(tick, use, elapsed_s)

    @property
    def history(self) -> History:
        """The run so far."""
        used, ticks = self._columns.used, self._columns.ticks.sum()
        end_s = (
            self._time_s * ticks / max(ticks - 1, 1)
        )  # the last look counts until the next would have been
        return History(
            self._node_ids,
            np.append(self._columns.begun_s[:used], end_s),
            ratio(*self._local[:used].T),
            tuple(self._job_histories(used)),
            self._regional.histories(used),
            self._moves.kept,
            self._moves.decided,
        )

    def _begin(self, snapshot: Snapshot) -> None:
        self._first_s = snapshot.time_s
        self._node_ids = snapshot.topology.node_ids
        self._others = _JobSums(OTHERS, np.zeros((POINTS, len(self._node_ids))))

    def _column(self, time_s: float) -> int:
        if self._columns.full:
            self._columns.halve()
            self._regional.fold()
            for sums in (self._local, self._others.sums, *(job.sums for job in self._jobs.values())):
                fold(sums)
        return self._columns.step(time_s)

    def _add_job(self, job: Job, column: int) -> None:
        held = [each.regions.page_bytes @ each.regions.pages for each in job.processes]
        bytes_by_node = np.sum([np.zeros(len(self._node_ids)), *held], axis=0)
        known = self._jobs.get(job.cgroup_id) or self._new_job(job, int(bytes_by_node.sum()))
        known.add(column, bytes_by_node)

    def _new_job(self, job: Job, size_bytes: int) -> _JobSums:
        """Give it a place of its own, where there is one or it is larger than the smallest that has."""
        if len(self._jobs) == MOST_JOBS:
            smallest = min(self._jobs, key=lambda cgroup_id: self._jobs[cgroup_id].peak_bytes)
            if size_bytes <= self._jobs[smallest].peak_bytes:
                return self._others
            self._others.sums += self._jobs.pop(smallest).sums
        self._jobs[job.cgroup_id] = _JobSums(job.path, np.zeros((POINTS, len(self._node_ids))))
        return self._jobs[job.cgroup_id]

    def _job_histories(self, used: int) -> Iterable[JobHistory]:
        ticks = self._columns.ticks[:used, None]
        for cgroup_id, job in self._jobs.items():
            yield JobHistory(job.path, cgroup_id, job.sums[:used] / ticks)
        if self._others.sums.any():
            yield JobHistory(OTHERS, None, self._others.sums[:used] / ticks)

    def _add_moves(self, tick: Tick, use: Use, elapsed_s: float) -> None:
        snapshot = tick.snapshot
        row_of = {process.key: row for row, process in enumerate(snapshot.processes)}
        owner_of = {process.key: (job, process) for job in snapshot.jobs for process in job.processes}
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            row = row_of.get(move.process)
            saves = None
            if row is not None and elapsed_s > 0:
                rate = use.cpu_s[row] / elapsed_s
                saves = self._saves(move, outcome, rate, use.page_share[row], snapshot.processes[row])
            self._moves.add(self._moved(move, outcome, owner_of.get(move.process), saves))

    def _moved(
        self, move: MovePages, outcome: Outcome, owner: tuple[Job, Process] | None, saves: float | None
    ) -> Moved:
        return Moved(
            self._time_s,
            owner[0].cgroup_id if owner else -1,
            owner[0].path if owner else "",
            owner[1].comm if owner else "",
            move.process.pid,
            move.sources,
            move.targets,
            move.reason.value,
            outcome.moved_bytes,
            outcome.took_s,
            outcome.ending.value,
            saves,
        )

    def _saves(
        self, move: MovePages, outcome: Outcome, rate: Floats, page_share: Floats, process: Process
    ) -> float:
        """Give the CPU time per second that the process no longer waits, its pages being where the move took them."""
        latency_ns = self._prices.latency_ns
        resident_bytes = max(int((process.regions.page_bytes @ process.regions.pages).sum()), 1)
        moved_share = outcome.moved_bytes / resident_bytes
        left, arrived = self._at(move.sources) * page_share, self._at(move.targets)
        shift = moved_share * (left / max(left.sum(), 1e-9) - arrived / max(arrived.sum(), 1))
        slower = (latency_ns / np.diag(latency_ns)[:, None]) @ shift
        return float(rate @ slower) * self._prices.memory_share

    def _at(self, nodes: tuple[int, ...]) -> Floats:
        return np.isin(self._node_ids, nodes).astype(np.float64)
