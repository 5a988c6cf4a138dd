# SPDX-License-Identifier: Apache-2.0

"""A policy around a policy: holds it to its limits, and to what became of earlier moves.

Problem: a policy wishes; whether a wish may be granted now depends on room,
on the rate of moving, on the process's cpuset and mempolicies, and on what the
last moves of that process came to.
Primitive: a wish is trimmed, never rewritten: fewer ranges, fewer bytes, or none.
Application: rules are asked in a fixed order, each of which trims or refuses;
what a process went through is kept only as long as the process is seen.
Everything is computed from snapshots and outcomes, so that the simulator
scores exactly what the daemon runs.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from numad_py.model import (
    Ending,
    Held,
    MovePages,
    Outcome,
    Plan,
    Process,
    ProcessKey,
    Refusal,
    Snapshot,
    Tick,
)
from numad_py.roles import Policy
from numad_py.topology import Addresses, Ints

MB = 1 << 20
LONGEST_WAIT_S = 900.0  # the 15 minutes of katalyst's ping-pong guard
GIVING_UP = frozenset({Ending.NO_ROOM, Ending.REFUSED, Ending.STUCK, Ending.UNKNOWN})


@dataclass(frozen=True)
class Limits:
    """What a profile allows its policy. MB = 2^20 bytes; shares are 0 to 1."""

    limit_mb_per_s: float = 1024.0
    headroom_mb: float = 64.0
    cache_share: float = 0.5
    cooldown_s: float = 10.0
    backoff_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.cache_share <= 1:
            raise ValueError("cache_share: a share is between 0 and 1")
        for name in ("limit_mb_per_s", "headroom_mb", "cooldown_s", "backoff_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")


@dataclass(frozen=True, eq=False)
class _Past:
    """What a process went through: where it was moved, how far, and what failed."""

    targets: tuple[int, ...] = ()
    moved_s: float = float("-inf")
    reversals: int = 0
    failures: int = 0
    quiet_until_s: float = float("-inf")
    resume: int = 0  # the address below which the last move, to ``asked``, dealt with every page
    asked: tuple[int, ...] = ()
    stayed: tuple[tuple[float, Addresses, Addresses], ...] = ()  # until when, starts, ends


@dataclass(eq=False)
class _Allowance:
    """What may still move this tick, in bytes: altogether, and into each node."""

    left_bytes: int
    room_bytes: Ints
    held: list[Held] = field(default_factory=list)


class Guard(Policy):
    """Lets through what the limits allow, and says what it held back and why."""

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits
        self._past: dict[ProcessKey, _Past] = {}
        self._looked_s: float | None = None

    def decide(self, snapshot: Snapshot) -> Plan:
        wish = self._policy.decide(snapshot)
        processes = {process.key: process for process in snapshot.processes}
        self._past = {key: past for key, past in self._past.items() if key in processes}
        allowance = self._allowance(snapshot)
        moves = []
        for move in wish.moves:
            if move.process in processes:
                granted = self._grant(move, processes[move.process], snapshot, allowance)
                moves += [granted] if granted else []
        tasks = (Held(move.process, 0, Refusal.TASKS) for move in wish.task_moves)
        return Plan(tuple(moves), (*wish.held, *allowance.held, *tasks))

    def review(self, tick: Tick) -> None:
        self._policy.review(tick)
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            if outcome.ending is not Ending.DRY_RUN:
                past = self._past.get(move.process, _Past())
                self._past[move.process] = self._learn(past, move, outcome, tick.snapshot.time_s)

    def _allowance(self, snapshot: Snapshot) -> _Allowance:
        since_s = 0.0 if self._looked_s is None else snapshot.time_s - self._looked_s
        self._looked_s = snapshot.time_s
        memory = snapshot.memory
        clean = np.maximum(memory.inactive_file_bytes - memory.dirty_bytes, 0)
        room = memory.free_bytes - memory.high_watermark_bytes - int(self._limits.headroom_mb * MB)
        room = room + (self._limits.cache_share * clean).astype(np.int64)
        return _Allowance(int(self._limits.limit_mb_per_s * MB * since_s), np.maximum(room, 0))

    def _grant(
        self, move: MovePages, process: Process, snapshot: Snapshot, allowance: _Allowance
    ) -> MovePages | None:
        """Trim the wish to what may move now; None where that is nothing."""
        past = self._past.get(move.process, _Past())
        refusal = self._refusal(move, process, past, snapshot)
        if refusal:
            allowance.held.append(Held(move.process, move.limit_bytes, refusal))
            return None
        trimmed = _only_movable(move, process)
        trimmed = _without_stayed(trimmed, past, snapshot.time_s)
        trimmed = _from_where_it_got_to(trimmed, past)
        granted_bytes = self._spend(trimmed, snapshot, allowance)
        granted_bytes -= granted_bytes % snapshot.topology.page_bytes
        if not granted_bytes or not len(trimmed.start):
            return None
        whole = move.whole and trimmed is move and granted_bytes == move.limit_bytes
        return replace(trimmed, limit_bytes=granted_bytes, whole=whole)

    def _refusal(self, move: MovePages, process: Process, past: _Past, snapshot: Snapshot) -> Refusal | None:
        now_s = snapshot.time_s
        if not snapshot.topology.gpu_ids.isdisjoint(move.targets):
            return Refusal.GPU_MEMORY
        if not set(move.targets) <= set(process.nodes_allowed):
            return Refusal.NOT_ALLOWED
        if now_s < past.quiet_until_s:
            return Refusal.BACKOFF
        cooldown_s = min(self._limits.cooldown_s * 2**past.reversals, LONGEST_WAIT_S)
        if move.targets != past.targets and now_s < past.moved_s + cooldown_s:
            return Refusal.COOLDOWN
        return None

    def _spend(self, move: MovePages, snapshot: Snapshot, allowance: _Allowance) -> int:
        """Take the bytes of a move out of the allowance; give how many there were."""
        targets = [snapshot.topology.index_of[target] for target in move.targets]
        room = int(allowance.room_bytes[targets].min()) * len(targets)
        granted = min(move.limit_bytes, room, allowance.left_bytes)
        if granted < move.limit_bytes:
            why = Refusal.NO_ROOM if room < allowance.left_bytes else Refusal.RATE
            allowance.held.append(Held(move.process, move.limit_bytes - granted, why))
        allowance.left_bytes -= granted
        allowance.room_bytes[targets] -= granted // len(targets)
        return granted

    def _learn(self, past: _Past, move: MovePages, outcome: Outcome, now_s: float) -> _Past:
        resume = 0 if outcome.ending is Ending.DONE else outcome.reached
        past = replace(past, resume=resume, asked=move.targets)
        if len(outcome.stayed_start):
            until_s = now_s + self._limits.backoff_s
            stayed = (until_s, outcome.stayed_start, outcome.stayed_end)
            past = replace(past, stayed=(*past.stayed, stayed))
        if outcome.moved_bytes:
            past = self._learn_target(past, move, now_s)
        if outcome.ending in GIVING_UP or (outcome.failed and not outcome.moved_bytes):
            wait_s = min(self._limits.backoff_s * 2**past.failures, LONGEST_WAIT_S)
            return replace(past, failures=past.failures + 1, quiet_until_s=now_s + wait_s)
        return replace(past, failures=0 if outcome.moved_bytes else past.failures)

    def _learn_target(self, past: _Past, move: MovePages, now_s: float) -> _Past:
        """Note where it went; a turn elsewhere soon after the last makes the next wait twice as long."""
        turned = past.targets not in ((), move.targets)
        soon = now_s < past.moved_s + 10 * self._limits.cooldown_s * 2**past.reversals
        reversals = past.reversals + 1 if turned and soon else past.reversals if soon else 0
        return replace(past, targets=move.targets, moved_s=now_s, reversals=reversals)


def _only_movable(move: MovePages, process: Process) -> MovePages:
    """Keep the ranges that lie in regions that may ever be moved."""
    regions = process.regions
    if not len(regions):
        return _with_ranges(move, np.zeros(len(move.start), bool))
    row = np.searchsorted(regions.start, move.start, side="right") - 1
    inside = (row >= 0) & (move.end <= regions.end[row])
    return _with_ranges(move, inside & regions.movable[row])


def _with_ranges(move: MovePages, keep: np.ndarray) -> MovePages:
    if keep.all():
        return move
    return replace(
        move, start=move.start[keep], end=move.end[keep], page_bytes=move.page_bytes[keep], whole=False
    )


def _without_stayed(move: MovePages, past: _Past, now_s: float) -> MovePages:
    """Cut out what would not move a while ago."""
    fresh = [(start, end) for until_s, start, end in past.stayed if now_s < until_s]
    if not fresh:
        return move
    holes = np.sort(np.concatenate([np.stack(pair, axis=1) for pair in fresh]), axis=0)
    return _without(move, holes[:, 0], holes[:, 1])


def _without(move: MovePages, hole_start: Addresses, hole_end: Addresses) -> MovePages:
    """Cut holes, ascending and apart, out of ascending ranges."""
    start = np.concatenate([move.start, hole_end])
    end = np.concatenate([move.end, hole_start])
    start.sort()
    end.sort()
    row = np.searchsorted(move.start, start, side="right") - 1
    keep = (row >= 0) & (start < end)
    row = np.maximum(row, 0)
    keep &= end <= move.end[row]
    return replace(move, start=start[keep], end=end[keep], page_bytes=move.page_bytes[row[keep]], whole=False)


def _from_where_it_got_to(move: MovePages, past: _Past) -> MovePages:
    """Go on behind what the last move dealt with, or from the beginning once that is all."""
    if past.asked != move.targets or not past.resume:
        return move
    keep = move.end > np.uint64(past.resume)
    if not keep.any():
        return move
    trimmed = _with_ranges(move, keep)
    return replace(trimmed, start=np.maximum(trimmed.start, np.uint64(past.resume)))
