# SPDX-License-Identifier: Apache-2.0

"""What a policy of others may wish, read strictly: an answer is taken whole, or not at all."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from numad_py.model import MovePages, MoveTasks, Plan, Process, ProcessKey, Reason, Snapshot
from numad_py.topology import Addresses, Bools, Ints
from numad_py.trace.wire import Column, Count, Key

MOST_MOVES: Final = 1024  # of pages, and as many of tasks
_SHOWN: Final = 200  # characters of what was found: it may be as long as a line


class Refused(ValueError):
    """An answer that is not taken; one sentence says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why if len(why) <= _SHOWN else f"{why[:_SHOWN]}…")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Anything in an answer."""


Nodes = Annotated[Column, Meta(min_length=1)]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")]
Figures = Annotated[dict[Name, Annotated[float, Meta(ge=-1e24, le=1e24)]], Meta(max_length=16)]


class Move(_Part, frozen=True):
    """A wish to move pages.

    Without ``sources`` from every other node, without ``start`` and ``end`` all that may be moved of the process,
    without ``limit_bytes`` all of it. ``figures`` are why, for the log and ``explain``.
    """

    process: Key
    targets: Nodes
    sources: Nodes | None = None
    start: Column | None = None
    end: Column | None = None
    limit_bytes: Count | None = None
    reason: Reason = Reason.MEMORY_FOLLOWS_CPU
    figures: Figures = {}


class TaskMove(_Part, frozen=True):
    """A wish to move threads."""

    process: Key
    nodes: Nodes
    reason: Reason = Reason.TASKS_FOLLOW_MEMORY
    figures: Figures = {}


class Answer(_Part, frozen=True):
    """The answer to the tick of that number; what is left out is wished for by nobody."""

    number: Count
    moves: Annotated[list[Move], Meta(max_length=MOST_MOVES)] = []
    task_moves: Annotated[list[TaskMove], Meta(max_length=MOST_MOVES)] = []


_decoder = msgspec.json.Decoder(Answer)


def decoded(line: bytes) -> Answer:
    """Read one line; raises Refused and nothing else."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"not an answer: {error}") from None


def plan_of(answer: Answer, snapshot: Snapshot) -> Plan:
    """Give the plan that an answer means; raises Refused for what cannot be wished of this snapshot."""
    _check_number(answer, len(snapshot.topology.nodes))
    plan = Plan(
        tuple(_move(wish, _known(wish.process, snapshot), snapshot) for wish in answer.moves),
        task_moves=tuple(
            MoveTasks(_known(wish.process, snapshot).key, tuple(wish.nodes), wish.reason, wish.figures)
            for wish in answer.task_moves
        ),
    )
    check(plan, snapshot)
    return plan


def check(plan: Plan, snapshot: Snapshot) -> None:
    """Raise Refused for wishes that make no sense of this snapshot; what of the others is granted is the guard's."""
    for move in plan.moves:
        process = _known(move.process, snapshot)
        _check_reason(move)
        _check_nodes(move.sources, snapshot)
        _check_nodes(move.targets, snapshot)
        if not move.targets or move.limit_bytes < 0:
            raise Refused(f"a move of process {process.key.pid} goes nowhere, or is of less than nothing")
        _check_ranges(move, process)
    for task_move in plan.task_moves:
        _known(task_move.process, snapshot)
        _check_reason(task_move)
        _check_nodes(task_move.nodes, snapshot)


def _move(wish: Move, process: Process, snapshot: Snapshot) -> MovePages:
    """Fill in what the wish left out."""
    regions, ids = process.regions, snapshot.topology.node_ids
    sources = wish.sources or [node for node in ids if node not in wish.targets]
    at_sources = np.isin(ids, sources)
    if wish.start is None and wish.end is None:
        rows = regions.movable & (regions.pages[:, at_sources] > 0).any(axis=1)
        start, end = regions.start[rows], regions.end[rows]
    else:
        start, end = (np.array(column or [], np.uint64) for column in (wish.start, wish.end))
    there_bytes = int(regions.movable_bytes[at_sources].sum())
    return MovePages(
        process.key,
        start,
        end,
        regions.page_bytes[_rows(start, process)],
        tuple(sources),
        tuple(wish.targets),
        there_bytes if wish.limit_bytes is None else min(wish.limit_bytes, there_bytes),
        wish.reason,
        figures=wish.figures,
    )


def _check_number(answer: Answer, nodes: int) -> None:
    """Bound the work: every wish may mean all regions of its process, and one for each target is enough."""
    moves = Counter((wish.process.pid, wish.process.start_ticks) for wish in answer.moves)
    for (pid, _), number in moves.items():
        if number > nodes:
            raise Refused(f"process {pid} is to be moved {number} times, and there are {nodes} nodes")


def _known(key: Key | ProcessKey, snapshot: Snapshot) -> Process:
    row = snapshot.row_of.get(ProcessKey(key.pid, key.start_ticks))
    if row is None:
        raise Refused(f"process [{key.pid}, {key.start_ticks}] is none of those that it was shown")
    return snapshot.processes[row]


def _check_reason(move: MovePages | MoveTasks) -> None:
    if move.reason is Reason.TAKEN_BACK:  # which no back-off, cooldown or trial holds back
        raise Refused(f"process {move.process.pid}: the reason {move.reason} is the guard's own")


def _check_nodes(nodes: Sequence[int], snapshot: Snapshot) -> None:
    for node in nodes:
        if node not in snapshot.topology.index_of:
            raise Refused(f"there is no node {node}")
    if len(set(nodes)) < len(nodes):  # room is counted for each
        raise Refused(f"a node stands twice in {list(nodes)}")


def _rows(start: Addresses, process: Process) -> Ints:
    """Give for each range the region that it can only be in."""
    regions = process.regions
    if len(start) and not len(regions):
        raise Refused(f"process {process.key.pid} has no memory that may be moved")
    return np.maximum(np.searchsorted(regions.start, start, side="right") - 1, 0)


def _check_ranges(move: MovePages, process: Process) -> None:
    pid, regions = process.key.pid, process.regions
    if not len(move.start) == len(move.end) == len(move.page_bytes):
        raise Refused(f"ranges of process {pid}: there are not as many ends as starts")
    if (move.start >= move.end).any() or (move.start[1:] < move.end[:-1]).any():
        raise Refused(f"ranges of process {pid} do not ascend, or overlap")
    row = _rows(move.start, process)
    may_move = regions.movable | regions.shared if move.among else regions.movable
    outside = (move.start < regions.start[row]) | (move.end > regions.end[row]) | ~may_move[row]
    _refuse_any(outside, move, "are in no region that may be moved")
    page_bytes = regions.page_bytes[row].astype(np.uint64)
    _refuse_any((move.start | move.end) % page_bytes > 0, move, "are no whole pages")


def _refuse_any(wrong: Bools, move: MovePages, why: str) -> None:
    for start, end in zip(move.start[wrong], move.end[wrong], strict=True):
        raise Refused(f"{int(start):#x}-{int(end):#x} of process {move.process.pid} {why}")
