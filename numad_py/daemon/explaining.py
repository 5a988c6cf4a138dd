# SPDX-License-Identifier: Apache-2.0

"""Say of one process what was seen of it, what was decided by which figures, and how its last moves ended."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from numad_py.model import (
    Compared,
    Decision,
    Explanation,
    Job,
    MovePages,
    MoveTasks,
    Outcome,
    Process,
    ProcessKey,
    Snapshot,
    Tick,
)
from numad_py.rhythm import Rhythm

MB: Final = 1 << 20
LAST: Final = 5  # of the moves of a process
LATELY_S: Final = 600.0


@dataclass(frozen=True)
class HeldBack:
    """What the guard held back at the last look, and why."""

    bytes: int
    why: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Moved:
    """A move and how it ended, the last of so many ``times`` in a row; ``what`` is pages, shared pages, or threads."""

    time_s: float
    times: int
    what: str
    reason: str
    targets: list[int]
    wanted_bytes: int
    moved_bytes: int
    moved_threads: int
    ending: str
    detail: str
    failed: dict[str, int]
    figures: dict[str, float]


@dataclass(frozen=True)
class Explained:
    """Why the memory of one process is where it is.

    ``now_s`` and what else is a time is CLOCK_MONOTONIC; ``cpu_s``, ``resident_bytes`` and ``movable_bytes`` are in the
    order of ``nodes``. ``placement_age_s`` is of the look, and null for never. Of ``lately`` the oldest comes first.
    """

    pid: int
    comm: str
    cgroup: str
    profile: str
    labelled_by: str | None
    replaced: str | None
    closed_by: dict[str, str]
    now_s: float
    looked_s: float
    period_s: float
    nodes: list[int]
    nodes_allowed: list[int]
    cpu_s: list[float]
    resident_bytes: list[int]
    movable_bytes: list[int]
    placement_age_s: float | None
    decision: str
    compared: list[Compared]
    targets: list[int]
    more_looks: int
    held: list[HeldBack]
    notes: list[str]
    lately: list[Moved]


@dataclass(frozen=True)
class Circumstances:
    """What is not in a look: how moves ended lately, who labelled the job, what keeps the daemon from acting.

    ``replaced`` says why another policy stands in for the profile's, where one does; ``rhythm`` is that of the
    process's steps, where it tells them; of ``merged_bytes`` the kernel made one with equal pages, None where some may be.
    """

    now_s: float
    period_s: float
    lately: tuple[Moved, ...] = ()
    labelled_by: str | None = None
    replaced: str | None = None
    closed_by: Mapping[str, str] | None = None
    rhythm: Rhythm | None = None
    merged_bytes: int | None = 0


def find(snapshot: Snapshot, pid: int) -> tuple[Job, Process] | None:
    """Give a process of a look, and its job."""
    members = ((job, process) for job in snapshot.jobs for process in job.processes)
    return next((found for found in members if found[1].key.pid == pid), None)


def explained(
    snapshot: Snapshot, job: Job, process: Process, explanation: Explanation | None, around: Circumstances
) -> Explained:
    """Put together what a look, a policy and the daemon know of a process of that look."""
    told = explanation or Explanation(Decision.UNTOLD)
    age_s = process.placement_age_s
    return Explained(
        pid=process.key.pid,
        comm=text(process.comm),
        cgroup=text(job.path),
        profile=text(job.profile),
        labelled_by=around.labelled_by,
        replaced=around.replaced and text(around.replaced),
        closed_by=dict(around.closed_by or {}),
        now_s=around.now_s,
        looked_s=snapshot.time_s,
        period_s=around.period_s,
        nodes=list(snapshot.topology.node_ids),
        nodes_allowed=list(process.nodes_allowed),
        cpu_s=snapshot.cpu_s[snapshot.row_of[process.key]].tolist(),
        resident_bytes=process.regions.resident_bytes.sum(axis=0).tolist(),
        movable_bytes=process.regions.movable_bytes.tolist(),
        placement_age_s=age_s if math.isfinite(age_s) else None,
        decision=str(told.decision),
        compared=list(told.compared),
        targets=list(told.targets),
        more_looks=told.more_looks,
        notes=[*told.notes, *_notes(around)],
        held=[HeldBack(each.bytes, str(each.why), dict(each.figures)) for each in told.held],
        lately=list(around.lately),
    )


def _notes(around: Circumstances) -> Iterator[str]:
    """Say what no policy knows of."""
    if around.rhythm:
        yield _of_steps(around.rhythm)
    if around.merged_bytes != 0:
        merged_mb = around.merged_bytes and f"{around.merged_bytes / MB:.1f} MB"
        yield f"{merged_mb or 'what'} of it the kernel merged with equal pages of others (KSM) is not moved"


def _of_steps(rhythm: Rhythm) -> str:
    step_ms, slack_ms = (f"{1e3 * time_s:.0f} ms" for time_s in (rhythm.period_s, rhythm.slack_s))
    return f"it makes a step every {step_ms}, {slack_ms} of them slack: its pages move there, if they fit"


def after(
    before: Mapping[ProcessKey, tuple[Moved, ...]], tick: Tick
) -> Mapping[ProcessKey, tuple[Moved, ...]]:
    """Add a turn to the last moves of each process, and forget who is gone and what is long ago."""
    snapshot = tick.snapshot
    since_s = snapshot.time_s - LATELY_S
    lately = {
        key: moves for key, moves in before.items() if key in snapshot.row_of and moves[-1].time_s > since_s
    }
    for key, moved in _moves(tick):
        lately[key] = _with(lately.get(key, ()), moved)
    return lately


def text(name: str) -> str:
    """Escape what is not UTF-8, which JSON cannot carry: a cgroup or a command may be called anything."""
    return name.encode(errors="backslashreplace").decode()


def _with(before: tuple[Moved, ...], new: Moved) -> tuple[Moved, ...]:
    """Add a move; one that came to as little as the last takes its place."""
    if before and not new.moved_bytes and not new.moved_threads and _alike(before[-1], new):
        return (*before[:-1], replace(new, times=before[-1].times + 1))
    return (*before, new)[-LAST:]


def _alike(one: Moved, other: Moved) -> bool:
    return (one.what, one.targets, one.ending) == (other.what, other.targets, other.ending)


def _moves(tick: Tick) -> Iterator[tuple[ProcessKey, Moved]]:
    """Give the moves of a turn by whom they were of: those of shared pages, of all of the job.

    An older trace does not tell what became of those of threads.
    """
    for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
        what, time_s = "shared pages" if move.among else "pages", tick.snapshot.time_s
        moved = _moved(what, move, move.targets, outcome, time_s, move.limit_bytes)
        yield from ((key, moved) for key in move.among or (move.process,))
    for task_move, outcome in zip(tick.plan.task_moves, tick.task_outcomes, strict=False):
        yield task_move.process, _moved("threads", task_move, task_move.nodes, outcome, tick.snapshot.time_s)


def _moved(
    what: str,
    move: MovePages | MoveTasks,
    targets: tuple[int, ...],
    outcome: Outcome,
    time_s: float,
    wanted_bytes: int = 0,
) -> Moved:
    return Moved(
        time_s,
        1,
        what,
        str(move.reason),
        list(targets),
        wanted_bytes,
        outcome.moved_bytes,
        outcome.moved_threads,
        str(outcome.ending),
        text(outcome.detail),
        dict(outcome.failed),
        dict(move.figures),
    )
