# SPDX-License-Identifier: Apache-2.0

"""A policy around a policy: holds it to its limits, and to what became of earlier moves.

Problem: a policy wishes; whether a wish may be granted now depends on room,
on the rate of moving, on the process's cpuset and mempolicies, and on what the
last moves of that process came to.
Primitive: a wish is trimmed, never rewritten: fewer ranges, fewer bytes, or none.
Application: rules are asked in a fixed order, each of which trims or refuses;
what a process went through is kept as long as the process is seen, or has to wait.
Everything is computed from snapshots and outcomes, so that the simulator
scores exactly what the daemon runs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from numad_py.guard import ranges
from numad_py.guard.leaving import Leaving
from numad_py.guard.limits import GIVING_UP, MB, SAVED_S, Limits
from numad_py.guard.narrowed import Narrowed
from numad_py.guard.phases import Phases
from numad_py.guard.trials import Trials
from numad_py.guard.waiting import Patience
from numad_py.model import (
    Decision,
    Ending,
    Explanation,
    Held,
    MovePages,
    MoveTasks,
    Outcome,
    Plan,
    Process,
    ProcessKey,
    Reason,
    Refusal,
    Snapshot,
    Tick,
    Wait,
    Waits,
)
from numad_py.roles import Policy
from numad_py.topology import Ints

_Refused = tuple[Refusal, dict[str, float]] | None
_Asked = tuple[tuple[int, ...], bool]  # the targets of a move, and whether it is for all who map its pages
PING_PONG = 3  # turns back, each soon after the last
STAYED_BACKOFFS = 10  # for so many is remembered what stayed once


@dataclass(frozen=True, eq=False)
class _Past:
    """What the pages of a process went through: where they were moved, how far, and what failed.

    By what was asked, every page below the address that was ``reached`` was dealt with.
    """

    wait: Wait = field(default_factory=Wait)
    reached: Mapping[_Asked, int] = field(default_factory=dict)
    brought: tuple[ranges.Brought, ...] = ()
    stayed: tuple[ranges.Stayed, ...] = ()
    home: int = -1  # where it ran when it was moved last

    def turns(self, move: MovePages) -> bool:
        """Say whether a move takes memory elsewhere than it was brought; of before a restart only targets are known."""
        if self.brought:
            return ranges.turns(self.brought, move)
        return self.wait.targets not in ((), move.targets)


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
        self._patience = Patience(limits)
        self._past: dict[ProcessKey, _Past] = {}
        self._task_waits: dict[ProcessKey, Wait] = {}
        self._trials = Trials(limits)
        self._phases = Phases()
        self._leaving = Leaving()
        self._narrowed = Narrowed()
        self._looked_s: float | None = None
        self._held: tuple[Held, ...] = ()

    def decide(self, snapshot: Snapshot) -> Plan:
        wish = self._policy.decide(snapshot)
        processes = {process.key: process for process in snapshot.processes}
        self._forget(processes, snapshot.time_s)
        self._phases.look(snapshot)
        judged = self._trials.look(snapshot, self._leaving.look(snapshot, self._phases))
        allowance = self._allowance(snapshot)
        moves = []
        for move in (*self._trials.wishes(), *wish.moves):
            if move.process in processes:
                granted = self._grant(move, processes[move.process], snapshot, allowance)
                moves += [granted] if granted else []
        back = {move.process: move for move in self._narrowed.look(snapshot, judged)}
        seen = [move for move in wish.task_moves if move.process in processes and move.process not in back]
        refused = [(move, self._refuse_tasks(move, processes[move.process], snapshot)) for move in seen]
        held = (Held(move.process, 0, *refusal) for move, refusal in refused if refusal)
        self._held = (*wish.held, *allowance.held, *held)
        task_moves = (*back.values(), *(move for move, refusal in refused if not refusal))
        return Plan(tuple(moves), self._held, task_moves, judged)

    def explain(self, key: ProcessKey) -> Explanation:
        told = self._policy.explain(key) or Explanation(Decision.UNTOLD)
        return replace(told, held=tuple(held for held in self._held if held.process == key))

    def review(self, tick: Tick) -> None:
        self._policy.review(tick)
        snapshot, now_s = tick.snapshot, tick.snapshot.time_s
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            if outcome.ending is not Ending.DRY_RUN:
                past = self._past.get(move.process, _Past())
                self._past[move.process] = self._learn(past, move, outcome, now_s)
                self._phases.learn(move, outcome)
                self._leaving.learn(move, outcome)
                process = snapshot.processes[snapshot.row_of[move.process]]
                self._trials.learn(process, move, outcome, now_s)
        for task_move, outcome in zip(tick.plan.task_moves, tick.task_outcomes, strict=True):
            if outcome.ending is not Ending.DRY_RUN:
                self._narrowed.learn(task_move, outcome, snapshot)
                self._task_waits[task_move.process] = self._learn_of_tasks(task_move, outcome, now_s)

    def waits(self) -> Waits:
        pages = ((key, past.wait) for key, past in self._past.items())
        tasks = self._current(self._task_waits.items())
        jobs = self._trials.waits(self._looked_s or 0.0)
        return Waits(tuple(self._current(pages)), tuple(tasks), jobs, tuple(self._trials.unjudged()))

    def recall(self, waits: Waits) -> None:
        self._trials.recall(waits.jobs, waits.unjudged)
        self._past |= {key: _Past(wait) for key, wait in waits.pages}
        self._task_waits |= dict(waits.tasks)

    def _forget(self, processes: Mapping[ProcessKey, Process], now_s: float) -> None:
        """Forget who is no longer seen, but for whom we have to wait: it may only be hidden."""
        self._past = {
            key: past
            for key, past in self._past.items()
            if key in processes or now_s < self._patience.until_s(past.wait)
        }
        for key, past in self._past.items():
            if past.stayed and key in processes:
                stayed = (each.within(processes[key].regions) for each in past.stayed)
                self._past[key] = replace(past, stayed=tuple(each for each in stayed if len(each.start)))
        self._task_waits = {
            key: wait
            for key, wait in self._task_waits.items()
            if key in processes or now_s < self._patience.until_s(wait)
        }

    def _current(self, waits: Iterable[tuple[ProcessKey, Wait]]) -> Iterator[tuple[ProcessKey, Wait]]:
        now_s = self._looked_s or 0.0
        return ((key, wait) for key, wait in waits if now_s < self._patience.until_s(wait))

    def _allowance(self, snapshot: Snapshot) -> _Allowance:
        since_s = 0.0 if self._looked_s is None else min(max(snapshot.time_s - self._looked_s, 0.0), SAVED_S)
        self._looked_s = snapshot.time_s
        memory = snapshot.memory
        room = memory.free_bytes - memory.high_watermark_bytes - int(self._limits.headroom_mb * MB)
        room = room + (self._limits.cache_share * memory.clean_bytes).astype(np.int64)
        return _Allowance(int(self._limits.limit_mb_per_s * MB * since_s), np.maximum(room, 0))

    def _grant(
        self, move: MovePages, process: Process, snapshot: Snapshot, allowance: _Allowance
    ) -> MovePages | None:
        """Trim the wish to what may move now; None where that is nothing."""
        past = self._past.get(move.process, _Past())
        refusal = self._refusal(move, process, past, snapshot)
        if refusal:
            allowance.held.append(Held(move.process, move.limit_bytes, *refusal))
            return None
        trimmed = ranges.only_movable(move, process)
        trimmed = ranges.without_stayed(trimmed, past.stayed, snapshot.time_s, process, snapshot.topology)
        trimmed = ranges.from_where_it_got_to(trimmed, past.reached.get(_asked(move), 0))
        if not len(trimmed.start):
            return None
        granted_bytes = self._spend(trimmed, ranges.gaining(move, process, snapshot.topology), allowance)
        granted_bytes -= granted_bytes % snapshot.topology.page_bytes
        if not granted_bytes:
            return None
        whole = move.whole and trimmed is move and granted_bytes == move.limit_bytes
        return replace(trimmed, limit_bytes=granted_bytes, whole=whole)

    def _refuse_tasks(self, move: MoveTasks, process: Process, snapshot: Snapshot) -> _Refused:
        if not self._limits.tasks:
            return Refusal.TASKS, {}
        wait = self._task_wait(move)
        return self._never(move.nodes, process, snapshot) or self._not_now(
            process, wait, snapshot, turns=move.nodes != wait.targets
        )

    def _task_wait(self, move: MoveTasks) -> Wait:
        return self._task_waits.get(move.process, Wait())

    def _refusal(self, move: MovePages, process: Process, past: _Past, snapshot: Snapshot) -> _Refused:
        never = self._never(move.targets, process, snapshot)
        if never or move.reason is Reason.TAKEN_BACK:
            return never
        if refused := self._not_now(process, past.wait, snapshot, turns=past.turns(move)):
            return refused
        too_short = self._phases.too_short(move, snapshot)
        return (Refusal.PHASES, too_short) if too_short else None

    def _never(self, targets: tuple[int, ...], process: Process, snapshot: Snapshot) -> _Refused:
        if not snapshot.topology.gpu_ids.isdisjoint(targets):
            return Refusal.GPU_MEMORY, {}
        return None if set(targets) <= set(process.nodes_allowed) else (Refusal.NOT_ALLOWED, {})

    def _not_now(self, process: Process, wait: Wait, snapshot: Snapshot, *, turns: bool) -> _Refused:
        """Say for how long it is refused yet, and after how much of what."""
        now_s = snapshot.time_s
        if now_s < wait.quiet_until_s:
            return Refusal.BACKOFF, {"wait_s": wait.quiet_until_s - now_s, "failures": float(wait.failures)}
        if turns and now_s < (cool_s := self._patience.cool_s(wait)):
            return Refusal.COOLDOWN, {"wait_s": cool_s - now_s, "reversals": float(wait.reversals)}
        return self._trials.refusal(process.key, now_s)

    def _spend(self, move: MovePages, targets: list[int], allowance: _Allowance) -> int:
        """Take the bytes of a move to nodes at these positions out of the allowance; give how many there were."""
        room = int(allowance.room_bytes[targets].min()) * len(targets)
        granted = min(move.limit_bytes, room, allowance.left_bytes)
        if granted < move.limit_bytes:
            why = Refusal.NO_ROOM if room < allowance.left_bytes else Refusal.RATE
            figures = {"room_mb": room / MB, "rate_mb": allowance.left_bytes / MB}
            allowance.held.append(Held(move.process, move.limit_bytes - granted, why, figures))
        allowance.left_bytes -= granted
        allowance.room_bytes[targets] -= granted // len(targets)
        return granted

    def _learn(self, past: _Past, move: MovePages, outcome: Outcome, now_s: float) -> _Past:
        turned = past.turns(move)
        got_to = {_asked(move): 0 if outcome.ending is Ending.DONE else outcome.reached}
        past = replace(past, reached=got_to if turned else {**past.reached, **got_to})
        if len(outcome.stayed_start):
            past = replace(past, stayed=tuple(self._stayed(past, move, outcome, now_s)))
        if move.reason is Reason.TAKEN_BACK:
            return past
        moved, home = bool(outcome.moved_bytes), self._phases.home(move.process)
        # One call late, after others brought pages, is slow: the workers keep the process aside until it is back.
        slow = moved and outcome.ending is Ending.STUCK
        failed = (outcome.ending in GIVING_UP and not slow) or (bool(outcome.failed) and not moved)
        turned = turned and home == past.home  # one that follows its process is no turn back
        wait = self._patience.learn(past.wait, move.targets, now_s, moved=moved, failed=failed, turned=turned)
        if wait.reversals >= PING_PONG and wait.reversals > past.wait.reversals:
            self._trials.ping_pong(move.process)
        if not moved:
            return replace(past, wait=wait)
        return replace(past, wait=wait, home=home, brought=ranges.brought(past.brought, move))

    def _stayed(
        self, past: _Past, move: MovePages, outcome: Outcome, now_s: float
    ) -> Iterator[ranges.Stayed]:
        """Leave alone what would not move: for a while, and what stayed twice for as long as its region lives.

        A device that pinned pages for long (CUDA, RDMA) lets go of them when they are unmapped; what others map
        too (EACCES), forked or merged by the kernel (KSM), may be the job's own later, and may move for all of them.
        """
        backoff_s, refused = self._limits.backoff_s, "EACCES" in outcome.failed
        longer_s, alone = STAYED_BACKOFFS * backoff_s, refused and not move.among
        before = [each for each in past.stayed if now_s < each.until_s + longer_s]
        yield from before
        start, end = outcome.stayed_start, outcome.stayed_end
        twice = np.zeros(len(start), bool)
        for each in before:
            if each.alone == alone:
                twice |= each.meets(start, end)
        yield ranges.Stayed(now_s + longer_s if refused else np.inf, start[twice], end[twice], alone)
        yield ranges.Stayed(now_s + backoff_s, start[~twice], end[~twice], alone)

    def _learn_of_tasks(self, move: MoveTasks, outcome: Outcome, now_s: float) -> Wait:
        wait, moved = self._task_wait(move), bool(outcome.moved_threads)
        if moved and move.reason is not Reason.TAKEN_BACK:
            self._trials.moved(move.process, now_s)
            self._phases.bound(move.process)
        return self._patience.learn(
            wait,
            move.nodes,
            now_s,
            moved=moved,
            failed=outcome.ending in GIVING_UP,
            turned=wait.targets not in ((), move.nodes),
        )


def _asked(move: MovePages) -> _Asked:
    return move.targets, bool(move.among)
