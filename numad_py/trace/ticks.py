# SPDX-License-Identifier: Apache-2.0

"""Ticks to lines and back, each side remembering every process's last regions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numad_py.mendable import Mendable
from numad_py.model import (
    Held,
    Job,
    JobCounters,
    JobMemory,
    Judged,
    LookCost,
    MovePages,
    MoveTasks,
    NodeMemory,
    Outcome,
    Plan,
    Process,
    ProcessKey,
    Regions,
    Skipped,
    Snapshot,
    Threads,
    Tick,
)
from numad_py.topology import Ints
from numad_py.trace import accesses, plausible, regions, wire
from numad_py.trace.header import Header
from numad_py.trace.wire import Damage, Kind, column, escaped, unescaped

_NODE_MEMORY = wire.NodeMemory.__struct_fields__
_COUNTERS = wire.JobCounters.__struct_fields__


class AnotherTopology(Mendable, ValueError):
    """Nodes or CPUs came or went since the trace began."""

    def __init__(self) -> None:
        super().__init__("nodes or CPUs came or went, and a trace holds one topology: begin another trace")


class Encoder:
    """Turns the ticks of one file into its lines; the first is a keyframe."""

    def __init__(self, header: Header) -> None:
        self._topology = header.topology
        self._keyframe_every = header.keyframe_every
        self._number = 0
        self._known: dict[ProcessKey, Regions] = {}

    def line(self, tick: Tick) -> bytes:
        """Give the tick's line; raises ValueError for a tick that this trace cannot hold."""
        self._check(tick)
        keyframe = self._number % self._keyframe_every == 0
        if keyframe:
            self._known = {}
        line = self._tick(tick, keyframe=keyframe)
        self._number += 1
        return wire.encoded(line)

    def _check(self, tick: Tick) -> None:
        topology = tick.snapshot.topology
        if topology is not self._topology and topology != self._topology:
            raise AnotherTopology
        if wrong := _unanswered(tick.plan, tick.outcomes, tick.task_outcomes):
            raise ValueError(wrong)

    def _tick(self, tick: Tick, *, keyframe: bool) -> wire.Tick:
        snapshot = tick.snapshot
        return wire.Tick(
            number=self._number,
            keyframe=keyframe,
            time_s=snapshot.time_s,
            memory=wire.NodeMemory(*(getattr(snapshot.memory, name).tolist() for name in _NODE_MEMORY)),
            jobs=[self._job(job) for job in snapshot.jobs],
            skipped=[
                wire.Skipped(_key(skipped.process), escaped(skipped.comm), escaped(skipped.why))
                for skipped in snapshot.skipped
            ],
            plan=wire.Plan(
                [_move_to_wire(move) for move in tick.plan.moves],
                [
                    wire.Held(_key(held.process), held.bytes, held.why, _figures(held.figures))
                    for held in tick.plan.held
                ],
                [
                    wire.TaskMove(_key(move.process), list(move.nodes), move.reason, _figures(move.figures))
                    for move in tick.plan.task_moves
                ],
                [
                    wire.Judged(each.cgroup_id, each.verdict, _figures(each.figures))
                    for each in tick.plan.judged
                ],
            ),
            outcomes=[_outcome_to_wire(outcome) for outcome in tick.outcomes],
            cost=_cost_to_wire(snapshot.cost),
            task_outcomes=[_outcome_to_wire(outcome) for outcome in tick.task_outcomes],
        )

    def _job(self, job: Job) -> wire.Job:
        memory = job.memory
        return wire.Job(
            job.cgroup_id,
            escaped(job.path),
            escaped(job.profile),
            [self._process(process) for process in job.processes],
            None
            if memory is None
            else wire.JobMemory(memory.anon_bytes.tolist(), memory.file_bytes.tolist()),
            None if job.counters is None else wire.JobCounters(*_values(job.counters)),
            job.barrier,
            job.progress,
            job.progress_age_s or wire.ZERO,
        )

    def _process(self, process: Process) -> wire.Process:
        whole, changes = self._regions(process)
        threads = process.threads
        return wire.Process(
            key=_key(process.key),
            comm=escaped(process.comm),
            nodes_allowed=list(process.nodes_allowed),
            threads=wire.Threads(threads.tid.tolist(), threads.cpu.tolist(), threads.cpu_s.tolist()),
            placement_age_s=process.placement_age_s,  # infinity, for never, becomes null
            regions=whole,
            changes=changes,
            cpu_age_s=process.cpu_age_s or wire.ZERO,
            placement_source=process.placement_source,
            placement_error_share=process.placement_error_share or wire.ZERO,
            gpus=list(process.gpus),
            accesses=None if process.accesses is None else accesses.to_wire(process.accesses),
        )

    def _regions(self, process: Process) -> tuple[wire.Regions | None, wire.Changes | None]:
        old, new = self._known.get(process.key), process.regions
        self._known[process.key] = new
        if old is None:
            return regions.to_wire(new), None
        return None, regions.changes(old, new)


class Decoder:
    """Turns the lines of one file, or of several that follow each other, into ticks."""

    def __init__(self, header: Header) -> None:
        self._topology = header.topology
        self._nodes = len(header.topology.nodes)
        self._next: int | None = 0
        self._time_s = -math.inf
        self._most_bytes = 0
        self._cpu_time = plausible.CpuTime()
        self._known: dict[ProcessKey, tuple[Ints, Regions]] = {}
        self._before: dict[ProcessKey, tuple[Ints, Regions]] = {}

    def begin(self) -> None:
        """Go on with the first tick of the next file."""
        self._next = 0

    def tick(self, line: wire.Tick, *, after_damage: bool = False) -> Tick:
        """Give the line's tick; raises Damage for one that cannot follow those before.

        That changes nothing, or leaves only a keyframe to go on at. One needs nothing that came
        before, and ``after_damage`` its number need not follow either.
        """
        self._check(line, after_damage=after_damage)
        self._next = None  # should anything below be damaged, half of what is known is of this tick
        if line.keyframe:
            self._before, self._known = self._known, {}
        snapshot = Snapshot(
            time_s=line.time_s,
            topology=self._topology,
            memory=NodeMemory(*(self._by_node(getattr(line.memory, name), name) for name in _NODE_MEMORY)),
            jobs=tuple(self._job(job) for job in line.jobs),
            skipped=tuple(
                Skipped(_key_from_wire(read.process), unescaped(read.comm), unescaped(read.why))
                for read in line.skipped
            ),
            cost=_cost_from_wire(line.cost),
        )
        self._before = {}
        outcomes, task_outcomes = (
            tuple(map(_outcome_from_wire, answers)) for answers in (line.outcomes, line.task_outcomes)
        )
        self._next, self._time_s = line.number + 1, line.time_s
        return Tick(snapshot, _plan_from_wire(line.plan), outcomes, task_outcomes)

    def _check(self, line: wire.Tick, *, after_damage: bool) -> None:
        if self._next is None and not line.keyframe:
            raise Damage("no keyframe since the damage before", Kind.ORDER)
        goes_on = after_damage and line.keyframe
        if self._next is not None and line.number != self._next and not goes_on:
            raise Damage(f"tick {line.number} where tick {self._next} belongs", Kind.ORDER)
        if line.number == 0 and not line.keyframe:
            raise Damage("the first tick is not a keyframe", Kind.ORDER)
        plausible.check_clock(line.time_s, self._time_s)
        if wrong := _unanswered(line.plan, line.outcomes, line.task_outcomes):
            raise Damage(wrong)
        self._most_bytes = plausible.machine_bytes(self._topology, line.memory)
        plausible.check_memory(line.memory, self._most_bytes)
        self._cpu_time.check(line)

    def _by_node(self, values: list[int], name: str) -> Ints:
        return column(values, np.int64, self._nodes, name)

    def _job(self, read: wire.Job) -> Job:
        processes = tuple(self._process(process) for process in read.processes)
        memory = None if read.memory is None else self._job_memory(read.memory)
        counters = None if read.counters is None else JobCounters(*_values(read.counters))
        path, profile = unescaped(read.path), unescaped(read.profile)
        told = (read.barrier, read.progress, read.progress_age_s)
        return Job(read.cgroup_id, path, profile, processes, memory, counters, *told)

    def _job_memory(self, read: wire.JobMemory) -> JobMemory:
        return JobMemory(
            self._by_node(read.anon_bytes, "anon_bytes"), self._by_node(read.file_bytes, "file_bytes")
        )

    def _process(self, read: wire.Process) -> Process:
        key = _key_from_wire(read.key)
        return Process(
            key,
            unescaped(read.comm),
            tuple(read.nodes_allowed),
            _threads_from_wire(read.threads),
            self._regions(key, read),
            _age_s(read.placement_age_s),
            _age_s(read.cpu_age_s),
            read.placement_source,
            read.placement_error_share,
            tuple(read.gpus),
            None if read.accesses is None else accesses.of_wire(read.accesses, self._topology),
        )

    def _regions(self, key: ProcessKey, read: wire.Process) -> Regions:
        if read.regions is not None:
            table = regions.table_of(read.regions, self._nodes)
            before = self._before.get(key)
            if before is not None and read.changes is None and np.array_equal(before[0], table):
                self._known[key] = before  # whole again, but unchanged: no reader need look twice
                return before[1]
        elif key not in self._known:
            raise Damage(f"process {key.pid} has no regions here, and none since the last keyframe")
        else:
            table, now = self._known[key]
            if read.changes is None:
                return now
        if read.changes is not None:
            table = regions.changed(table, read.changes)
        plausible.check_pages(table, self._most_bytes)
        now = regions.regions_of(table)
        self._known[key] = table, now
        return now


def _cost_to_wire(cost: LookCost) -> wire.LookCost | None:
    if cost == LookCost():  # of a machine that looks for nothing
        return None
    postponed = [_key(key) for key in cost.postponed]
    return wire.LookCost(cost.cpu_s, cost.core_share, postponed, cost.investigation_cpu_s or wire.ZERO)


def _cost_from_wire(read: wire.LookCost | None) -> LookCost:
    if read is None:
        return LookCost()
    postponed = tuple(_key_from_wire(key) for key in read.postponed)
    return LookCost(read.cpu_s, read.core_share, postponed, read.investigation_cpu_s)


def _values(counters: JobCounters | wire.JobCounters) -> tuple[Any, ...]:
    """Give the fields, which are the same on both sides."""
    return tuple(getattr(counters, name) for name in _COUNTERS)


def _unanswered(plan: Plan | wire.Plan, outcomes: Sequence[object], task_outcomes: Sequence[object]) -> str:
    """Say which moves are not answered one by one; before minor version 1 those of tasks never were."""
    if len(outcomes) != len(plan.moves):
        return f"{len(outcomes)} outcomes for {len(plan.moves)} moves"
    if task_outcomes and len(task_outcomes) != len(plan.task_moves):
        return f"{len(task_outcomes)} outcomes for {len(plan.task_moves)} moves of tasks"
    return ""


def _age_s(read: float | None) -> float:
    """Give an age; JSON has no infinity, which is never."""
    return math.inf if read is None else read


def _key(key: ProcessKey) -> wire.Key:
    return wire.Key(key.pid, key.start_ticks)


def _key_from_wire(read: wire.Key) -> ProcessKey:
    return ProcessKey(read.pid, read.start_ticks)


def _threads_from_wire(read: wire.Threads) -> Threads:
    length = len(read.tid)
    return Threads(
        column(read.tid, np.int64, length, "tid"),
        column(read.cpu, np.int64, length, "cpu"),
        column(read.cpu_s, np.float64, length, "cpu_s"),
    )


def _move_to_wire(move: MovePages) -> wire.Move:
    return wire.Move(
        _key(move.process),
        move.start.tolist(),
        move.end.tolist(),
        move.page_bytes.tolist(),
        list(move.sources),
        list(move.targets),
        move.limit_bytes,
        move.reason,
        move.whole,
        _figures(move.figures),
        [_key(each) for each in move.among],
    )


def _figures(figures: Mapping[str, float]) -> wire.Figures:
    """Give what a line can hold: of what is not finite JSON has no number."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _plan_from_wire(read: wire.Plan) -> Plan:
    return Plan(
        tuple(_move_from_wire(move) for move in read.moves),
        tuple(Held(_key_from_wire(held.process), held.bytes, held.why, held.figures) for held in read.held),
        tuple(
            MoveTasks(_key_from_wire(move.process), tuple(move.nodes), move.reason, move.figures)
            for move in read.task_moves
        ),
        tuple(Judged(judged.cgroup_id, judged.verdict, judged.figures) for judged in read.judged),
    )


def _move_from_wire(read: wire.Move) -> MovePages:
    length = len(read.start)
    return MovePages(
        process=_key_from_wire(read.process),
        start=column(read.start, np.uint64, length, "start"),
        end=column(read.end, np.uint64, length, "end"),
        page_bytes=column(read.page_bytes, np.int64, length, "page_bytes"),
        sources=tuple(read.sources),
        targets=tuple(read.targets),
        limit_bytes=read.limit_bytes,
        reason=read.reason,
        whole=read.whole,
        figures=read.figures,
        among=tuple(_key_from_wire(each) for each in read.among),
    )


def _outcome_to_wire(outcome: Outcome) -> wire.Outcome:
    return wire.Outcome(
        outcome.ending,
        outcome.moved_bytes,
        dict(outcome.failed),
        outcome.stayed_start.tolist(),
        outcome.stayed_end.tolist(),
        outcome.reached,
        outcome.took_s,
        list(outcome.call_s),
        escaped(outcome.detail),
        outcome.moved_threads,
    )


def _outcome_from_wire(read: wire.Outcome) -> Outcome:
    stayed = len(read.stayed_start)
    return Outcome(
        ending=read.ending,
        moved_bytes=read.moved_bytes,
        failed=read.failed,
        stayed_start=column(read.stayed_start, np.uint64, stayed, "stayed_start"),
        stayed_end=column(read.stayed_end, np.uint64, stayed, "stayed_end"),
        reached=read.reached,
        took_s=read.took_s,
        call_s=tuple(read.call_s),
        detail=unescaped(read.detail),
        moved_threads=read.moved_threads,
    )
