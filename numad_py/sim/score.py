# SPDX-License-Identifier: Apache-2.0

"""What a run of the loop gained, and what it spent, from its ticks alone.

Problem: two policies are to be compared on figures that mean the same for both, and for a live daemon.

Primitive: each tick gives CPU time by process and node, resident bytes by process and node, and outcomes.
A process's accesses are taken to come from where it used CPU time, and to go where an investigation saw them go; before
any did, evenly to its resident pages.

Application: one `Scorer` per run; what it remembers does not grow with the run's length.

Units: seconds, bytes, base pages; shares are 0 to 1.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from numad_py.model import ProcessKey, Snapshot, Tick
from numad_py.sim.cost import Prices
from numad_py.sim.timeline import Timeline
from numad_py.sim.use import Use, Users
from numad_py.sim.work import JobTimes, by_path, sharing
from numad_py.topology import Floats, Topology

SETTLED_SHARE: Final = 0.95
TIMELINE_POINTS: Final = 16
_NO_STALLS: Final[Mapping[ProcessKey, float]] = {}


@dataclass(frozen=True)
class Score:
    """The figures of one run.

    ``local_share_*`` are about unbound anonymous bytes; None where nothing says what is local. ``accesses`` and
    ``remote_accesses`` are modelled; ``modelled_s`` is CPU time under the cost model plus ``blocked_s``.
    ``moving_s`` is the CPU time of moving, ``blocked_s`` the time that jobs waited for pages on the move.
    ``held`` counts what the guard held back. ``settle_s`` is by job the time from its first look until
    `SETTLED_SHARE` was local for good; None for never. A job without memory, or that never ran, has none.
    ``seen_cpu_s`` is CPU time of processes whose accesses were seen, not inferred. ``job_s`` is by job how long its recorded work takes;
    ``worst_step`` how many times as long as recorded the work of one look took, where any job's took longest.
    ``modelled_ends_s`` are what ``modelled_s`` is at the ends of what nobody knows.
    ``least_s`` is what ``modelled_s`` could have been at the least, as far as an oracle was asked, and
    ``least_anywhere_s`` the same if threads may be moved too. ``perfect_s`` is ``modelled_s`` of the same policy where it
    sees the machine as it is.
    """

    ticks: int
    elapsed_s: float
    cpu_s: float
    seen_cpu_s: float
    local_share_end: float | None
    local_share_mean: float | None
    accesses: float
    remote_accesses: float
    modelled_s: float
    modelled_ends_s: tuple[float, ...]
    moved_bytes: int
    moved_pages: int
    moving_s: float
    blocked_s: float
    decisions: int
    task_moves: int
    held: int
    held_bytes: int
    endings: Mapping[str, int]
    failed_pages: Mapping[str, int]
    settle_s: Mapping[str, float | None]
    job_s: Mapping[str, float]
    worst_step: float
    timeline: tuple[float | None, ...]
    least_s: float | None = None
    least_anywhere_s: float | None = None
    perfect_s: float | None = None

    @property
    def remote_access_share(self) -> float | None:
        """Accesses served by another node, of all; None without any."""
        return self.remote_accesses / self.accesses if self.accesses else None

    @property
    def seen_share(self) -> float | None:
        """CPU time of processes whose accesses were seen, of all; None without any."""
        return self.seen_cpu_s / self.cpu_s if self.cpu_s else None

    @property
    def worst_settle_s(self) -> float | None:
        """The slowest job's; None where one never settled, or none could."""
        times_s = [math.inf if time_s is None else time_s for time_s in self.settle_s.values()]
        worst_s = max(times_s, default=math.inf)
        return None if math.isinf(worst_s) else worst_s


@dataclass(frozen=True)
class _Settling:
    """A job on its way to a placement that stays: its first look, and since when it is settled.

    ``judged`` says that there was something to judge by: memory, and a home for it.
    """

    path: str
    first_s: float
    since_s: float | None = None
    judged: bool = False

    def seen(self, time_s: float, local_share: float) -> "_Settling":
        since_s = time_s if self.since_s is None else self.since_s
        return replace(self, since_s=since_s if local_share >= SETTLED_SHARE else None, judged=True)

    @property
    def took_s(self) -> float | None:
        return None if self.since_s is None else self.since_s - self.first_s


@dataclass(eq=False)
class _Sums:
    """Running sums, by the names of a score's fields.

    ``working_s`` is the CPU time under the cost model, and ``ends_s`` at the ends of what nobody knows; ``remote_s`` the part of the recorded one that reached for another
    node; ``local_s`` adds up local shares over the time ``known_s``.
    """

    ends_s: Floats
    ticks: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    seen_cpu_s: float = 0.0
    working_s: float = 0.0
    remote_s: float = 0.0
    local_s: float = 0.0
    known_s: float = 0.0
    moved_bytes: int = 0
    moved_pages: int = 0
    moving_s: float = 0.0
    blocked_s: float = 0.0
    decisions: int = 0
    task_moves: int = 0
    held: int = 0
    held_bytes: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    failed_pages: Counter[str] = field(default_factory=Counter)


class Scorer:
    """Adds up ticks; nothing but the ticks and the prices goes into a score."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._users = Users(len(prices.latency_ns))
        self._sums = _Sums(ends_s=np.zeros(len(prices.ends)))
        self._timeline = Timeline(TIMELINE_POINTS)
        self._settling: dict[int, _Settling] = {}
        self._job_times = JobTimes()
        self._time_s: float | None = None
        self._local_share: float | None = None

    def add(self, tick: Tick, stalled_s: Mapping[ProcessKey, float] = _NO_STALLS) -> None:
        """Take one tick into the score; ``stalled_s`` is what its policy cost processes besides moving."""
        time_s = tick.snapshot.time_s
        elapsed_s = 0.0 if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        self._sums.ticks += 1
        self._sums.elapsed_s += elapsed_s
        use = self._users.look(tick.snapshot)
        slower = self._add_accesses(use, tick.snapshot.topology, elapsed_s)
        self._add_local_share(tick.snapshot, use, elapsed_s)
        blocked_s = self._add_moves(tick, use, elapsed_s) + _by_process(tick.snapshot, stalled_s)
        self._sums.blocked_s += float(blocked_s.sum())
        self._job_times.add(tick.snapshot, slower, blocked_s, elapsed_s)

    @property
    def score(self) -> Score:
        """The figures so far."""
        sums, prices = self._sums, self._prices
        return Score(
            ticks=sums.ticks,
            elapsed_s=sums.elapsed_s,
            cpu_s=sums.cpu_s,
            seen_cpu_s=sums.seen_cpu_s,
            local_share_end=self._local_share,
            local_share_mean=sums.local_s / sums.known_s if sums.known_s else self._local_share,
            accesses=sums.cpu_s * prices.accesses_per_cpu_s,
            remote_accesses=sums.remote_s * prices.accesses_per_cpu_s,
            modelled_s=sums.working_s + sums.blocked_s,
            modelled_ends_s=tuple((sums.ends_s + sums.blocked_s).tolist()),
            moved_bytes=sums.moved_bytes,
            moved_pages=sums.moved_pages,
            moving_s=sums.moving_s,
            blocked_s=sums.blocked_s,
            decisions=sums.decisions,
            task_moves=sums.task_moves,
            held=sums.held,
            held_bytes=sums.held_bytes,
            endings=dict(sorted(sums.endings.items())),
            failed_pages=dict(sorted(sums.failed_pages.items())),
            settle_s=self._settle_s(),
            job_s=self._job_times.took_s,
            worst_step=self._job_times.worst_step,
            timeline=self._timeline.shares,
        )

    def _settle_s(self) -> dict[str, float | None]:
        judged = {cgroup_id: job for cgroup_id, job in self._settling.items() if job.judged}
        return by_path({cgroup_id: (job.path, job.took_s) for cgroup_id, job in judged.items()})

    def _add_accesses(self, use: Use, on: Topology, elapsed_s: float) -> Floats:
        """Add CPU time, and the part of it that reached for another node; say how much longer each process takes."""
        remote = use.reach.sum(axis=2) - np.einsum("pii->pi", use.reach)
        busy_s = use.cpu_s * sharing(use.cpu_s, elapsed_s, on)
        working_s, *ends_s = (
            (busy_s * prices.slower(use.cpu_s, use.reach, elapsed_s)).sum(axis=1)
            for prices in (self._prices, *self._prices.ends)
        )
        cpu_s = use.cpu_s.sum(axis=1)
        self._sums.cpu_s += float(cpu_s.sum())
        self._sums.seen_cpu_s += float(cpu_s[use.seen].sum())
        self._sums.working_s += float(working_s.sum())
        self._sums.ends_s += [float(each.sum()) for each in ends_s]
        self._sums.remote_s += float((use.cpu_s * remote).sum())
        by_process: Floats = np.where(cpu_s > 0, working_s / np.maximum(cpu_s, 1e-12), 1.0)
        return by_process

    def _add_local_share(self, snapshot: Snapshot, use: Use, elapsed_s: float) -> None:
        row = np.repeat(np.arange(len(snapshot.jobs)), [len(job.processes) for job in snapshot.jobs])
        local = np.bincount(row, use.local_bytes, minlength=len(snapshot.jobs))
        known = np.bincount(row, use.known_bytes, minlength=len(snapshot.jobs))
        for job, local_bytes, known_bytes in zip(snapshot.jobs, local, known, strict=True):
            settling = self._settling.get(job.cgroup_id) or _Settling(job.path, snapshot.time_s)
            if known_bytes:
                settling = settling.seen(snapshot.time_s, local_bytes / known_bytes)
            self._settling[job.cgroup_id] = settling
        share = float(local.sum() / known.sum()) if known.any() else None
        self._timeline.add(share)
        if share is not None:
            self._local_share = share
            self._sums.local_s += share * elapsed_s
            self._sums.known_s += elapsed_s

    def _add_moves(self, tick: Tick, use: Use, elapsed_s: float) -> Floats:
        """Add what moving came to; say how long each process was blocked."""
        sums, page_bytes = self._sums, tick.snapshot.topology.page_bytes
        blocked_s = np.zeros(len(use.cpu_s))
        row_of = _row_of(tick.snapshot) if tick.plan.moves else {}
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            row = row_of.get(move.process)
            if row is not None:
                running_s = float(use.cpu_s[row].sum())
                # One thread at a time can wait for the page on the move, and only while it runs.
                busy_share = min(1.0, running_s / elapsed_s) if elapsed_s else float(running_s > 0)
                blocked_s[row] += outcome.took_s * busy_share
            sums.moving_s += outcome.took_s
            sums.moved_bytes += outcome.moved_bytes
            sums.moved_pages += outcome.moved_bytes // page_bytes
            sums.endings[outcome.ending.value] += 1
            sums.failed_pages.update(outcome.failed)
        sums.decisions += len(tick.plan.moves)
        sums.task_moves += len(tick.plan.task_moves)
        sums.held += len(tick.plan.held)
        sums.held_bytes += sum(held.bytes for held in tick.plan.held)
        return blocked_s


def _by_process(snapshot: Snapshot, seconds: Mapping[ProcessKey, float]) -> Floats:
    return np.array([seconds.get(process.key, 0.0) for process in snapshot.processes], np.float64)


def _row_of(snapshot: Snapshot) -> dict[ProcessKey, int]:
    return {process.key: row for row, process in enumerate(snapshot.processes)}
