# SPDX-License-Identifier: Apache-2.0

"""Count ticks.

Problem: a turn has a millisecond to spare, and what is known of a job must end with the job.
Primitive: counters for what happens, a look at the last tick for what is.
Application: a turn adds up its moves; all else waits until somebody wants the values.
"""

import errno
import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import Final

import numpy as np
import psutil
import structlog

from numad_py import __version__
from numad_py.act.gate import Gate
from numad_py.daemon.homes import Homes
from numad_py.daemon.log import printable
from numad_py.daemon.metrics import table
from numad_py.daemon.metrics.table import Kind, Metric
from numad_py.daemon.others.external import External
from numad_py.model import Job, MovePages, MoveTasks, Outcome, ProcessKey, Skipped, Snapshot, Tick, Verdict
from numad_py.topology import Ints
from numad_py.workers import Unfinished

Labels = tuple[str, ...]
Values = Mapping[Metric, Mapping[Labels, float]]
Counts = defaultdict[Labels, float]

MOST_JOBS: Final = 1000  # some 20 series each; whoever may label could ask for more
BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

_PLACED: Final = (table.RESIDENT, table.REMOTE, table.REMOTE_MOVABLE)
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_UNFINISHED: Final = frozenset(each.value for each in Unfinished)


class Spread:
    """Counts times by how long they are."""

    def __init__(self) -> None:
        self.sum_s = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)

    def add(self, time_s: float) -> None:
        """Count one."""
        self.sum_s += time_s
        self._counts[bisect_left(BOUNDS_S, time_s)] += 1

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Give how many were no longer than each bound, and than none."""
        bounds = (*map(str, BOUNDS_S), "+Inf")
        return list(zip(bounds, accumulate(self._counts), strict=True))


class Counting:
    """What the ticks so far come to, by metric and labels."""

    def __init__(
        self,
        gate: Gate,
        taken_back: Callable[[], int],
        others: Callable[[], Sequence[External]] = tuple,
    ) -> None:
        self.spreads = {table.CALL: Spread(), table.LOOK: Spread()}
        self._gate = gate
        self._taken_back = taken_back
        self._others = others
        self._us = psutil.Process()
        self._homes = Homes()
        self._counts: dict[Metric, Counts] = {
            each: defaultdict(float) for each in table.ALL if each.kind is Kind.COUNTER
        }
        self._cgroups: dict[str, None] = {}  # those counted, in the order in which they came
        self._live: frozenset[str] = frozenset()
        self._last: tuple[Tick, float] | None = None

    def take(self, tick: Tick, look_s: float) -> None:
        """Count one turn, of which looking took ``look_s``."""
        snapshot = tick.snapshot
        self._follow(snapshot)
        self._homes = self._homes.after(snapshot)
        self._counts[table.TURNS][()] += 1
        self.spreads[table.LOOK].add(look_s)
        self._last = tick, time.time()
        if tick.plan.moves or tick.plan.task_moves or tick.plan.judged or snapshot.cost.postponed:
            self._count(tick, self._cgroup_of(snapshot.jobs))

    def _follow(self, snapshot: Snapshot) -> None:
        """Forget jobs that ended, and take up new ones; those that came first stay where there are too many."""
        live = frozenset(printable(job.path) for job in snapshot.jobs)
        if live == self._live:
            return
        wanted = [*(cgroup for cgroup in self._cgroups if cgroup in live), *sorted(live)]
        before, self._cgroups = self._cgroups, dict.fromkeys(list(dict.fromkeys(wanted))[:MOST_JOBS])
        if len(live) > MOST_JOBS >= len(self._live):
            note = f"the metrics tell of those {MOST_JOBS} that came first"
            structlog.get_logger().warning("too many jobs", jobs=len(live), note=note)
        self._live = live
        self._forget(before.keys() - self._cgroups.keys())
        for cgroup in self._cgroups.keys() - before.keys():
            self._begin(cgroup, snapshot.topology.node_ids)

    def _forget(self, cgroups: AbstractSet[str]) -> None:
        for metric, counts in self._counts.items():
            if "cgroup" in metric.labels:
                for labels in [each for each in counts if each[0] in cgroups]:
                    del counts[labels]

    def _begin(self, cgroup: str, node_ids: tuple[int, ...]) -> None:
        """Begin at 0: rate() does not see what a counter had when it was met first."""
        for metric in (table.STALL, table.MOVED_THREADS):
            self._counts[metric][(cgroup,)] = 0
        for verdict in Verdict:
            self._counts[table.JUDGED][cgroup, str(verdict)] = 0
        for node in node_ids:
            self._counts[table.MOVED][cgroup, str(node)] = 0

    def _cgroup_of(self, jobs: Iterable[Job]) -> dict[ProcessKey, str]:
        """Give the label of each process's job, where that is counted."""
        labelled = ((printable(job.path), job.processes) for job in jobs)
        return {
            process.key: cgroup
            for cgroup, processes in labelled
            if cgroup in self._cgroups
            for process in processes
        }

    def _count(self, tick: Tick, cgroup_of: Mapping[ProcessKey, str]) -> None:
        for key in tick.snapshot.cost.postponed:
            self._counts[table.POSTPONED][(cgroup_of.get(key, ""),)] += 1
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            for call_s in outcome.call_s:
                self.spreads[table.CALL].add(call_s)
            if cgroup := cgroup_of.get(move.process):
                self._count_ending(cgroup, move, outcome)
                self._count_pages(cgroup, move, outcome)
        for task_move, outcome in zip(tick.plan.task_moves, tick.task_outcomes, strict=True):
            if cgroup := cgroup_of.get(task_move.process):
                self._count_ending(cgroup, task_move, outcome)
                self._counts[table.MOVED_THREADS][(cgroup,)] += outcome.moved_threads

        cgroups = {job.cgroup_id: printable(job.path) for job in tick.snapshot.jobs}
        for judged in tick.plan.judged:
            if (cgroup := cgroups[judged.cgroup_id]) in self._cgroups:
                self._counts[table.JUDGED][cgroup, str(judged.verdict)] += 1

    def _count_ending(self, cgroup: str, move: MovePages | MoveTasks, outcome: Outcome) -> None:
        self._counts[table.MOVES][cgroup, str(move.reason), str(outcome.ending)] += 1

    def _count_pages(self, cgroup: str, move: MovePages, outcome: Outcome) -> None:
        self._counts[table.STALL][(cgroup,)] += sum(outcome.call_s)
        for node in move.targets:
            self._counts[table.MOVED][cgroup, str(node)] += outcome.moved_bytes / len(move.targets)
        for why, pages in outcome.failed.items():
            self._counts[table.FAILED][cgroup, why] += pages

    def values(self) -> Values:
        """Give every metric but the histograms, as of the last turn."""
        return {**self._counts, **self._daemon(), **self._looked()}

    def _daemon(self) -> Values:
        closed_by = self._gate.closed_by
        return {
            table.ACTING: {(): float(not closed_by)},
            table.NOT_ACTING: {(who, printable(why)): 1 for who, why in closed_by.items()},
            table.PAUSED: {(): float("operator" in closed_by)},
            table.POLICY_REPLACED: {(each.profile,): float(bool(each.why)) for each in self._others()},
            table.POLICY_MISSED: {(each.profile,): each.missed for each in self._others()},
            table.TAKEN_BACK: {("affinity",): self._taken_back()},
            table.CPU: {(): time.process_time()},
            table.MEMORY: {(): self._us.memory_info().rss},
            table.BUILD: {(__version__,): 1},
        }

    def _looked(self) -> Values:
        if self._last is None:
            return {}
        tick, at_s = self._last
        snapshot = tick.snapshot
        memory, node_ids = snapshot.memory, snapshot.topology.node_ids
        room_bytes = np.maximum(memory.free_bytes - memory.high_watermark_bytes, 0) + memory.clean_bytes
        return {
            table.JOBS: {(): len(self._live)},
            table.LAST_TURN: {(): at_s},
            table.CORE_SHARE: {(): snapshot.cost.core_share},
            table.SKIPPED: Counter((kind_of(skipped),) for skipped in snapshot.skipped),
            table.HELD: self._held(tick),
            table.NODE_FREE: _by_node(node_ids, memory.free_bytes),
            table.NODE_ROOM: _by_node(node_ids, room_bytes),
            **self._placed(snapshot.jobs, node_ids),
        }

    def _held(self, tick: Tick) -> Counts:
        held: Counts = defaultdict(float)
        cgroup_of = self._cgroup_of(tick.snapshot.jobs)
        for each in tick.plan.held:
            if cgroup := cgroup_of.get(each.process):
                held[cgroup, str(each.why)] += each.bytes
        return held

    def _placed(self, jobs: Iterable[Job], node_ids: tuple[int, ...]) -> Values:
        placed: dict[Metric, Counts] = {metric: defaultdict(float) for metric in _PLACED}
        for job in jobs:
            cgroup = printable(job.path)
            if cgroup in self._cgroups:
                for (row, node), bytes_ in np.ndenumerate(self._homes.placed(job, len(node_ids))):
                    placed[_PLACED[row]][cgroup, job.profile, str(node_ids[node])] += int(bytes_)
        return placed


def kind_of(skipped: Skipped) -> str:
    """Say why in one of a few words, without PIDs and paths: each other word would be a series of its own."""
    if refused := _ERRNO.match(skipped.why):
        return errno.errorcode.get(int(refused[1]), "refused")
    return skipped.why if skipped.why in _UNFINISHED else "not understood"


def _by_node(node_ids: tuple[int, ...], by_node: Ints) -> dict[Labels, float]:
    return {(str(node),): value for node, value in zip(node_ids, by_node.tolist(), strict=True)}
