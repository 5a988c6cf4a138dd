# SPDX-License-Identifier: Apache-2.0

"""Carry out a Plan on the live machine, and be back by a deadline."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from numad_py.act.batch_size import BatchSize
from numad_py.act.gate import Gate
from numad_py.act.pace import Pace
from numad_py.act.pages import Sizes
from numad_py.act.reclaim import Reclaim
from numad_py.act.strangers import IN_TIME, strangers
from numad_py.act.tasks import TaskMover
from numad_py.act.transfer import THREADS, Transfer
from numad_py.kernel import Malformed, capabilities, proc_status
from numad_py.kernel.identity import OpenProcess
from numad_py.model import Ending, MovePages, Outcome, Plan, ProcessKey
from numad_py.rhythm import Rhythm
from numad_py.roles import Actuator
from numad_py.workers import Unfinished, Workers

MOST_WAITING = 16  # moves at once, for the ends of steps
SHARED_SHARE = 0.5  # of the time, for what is shared; half of that at least for finding out who maps it
LONGEST_SCAN_S = 4.0  # for that, where it had too little: twice as much each time, whatever a turn has
SCAN_RESTS = 10  # times what it took in vain
NICE = -10  # of threads that move; Linux has it by thread, and these end with the move


class LiveActuator(Actuator):
    """Moves pages of other processes with move_pages(2) and migrate_pages(2), and lets ``tasks`` move their threads.

    Needs CAP_SYS_PTRACE over the processes of others; without it their moves
    end as refused. What it did not get to by the deadline stands in the
    Outcome; nothing queues. While the gate is closed nothing is tried. Where ``rhythm`` knows the steps of a process
    by its PID, calls that move its pages wait for their ends; all that do so wait at once, after the other moves.
    """

    def __init__(
        self,
        workers: Workers,
        sizes: Sizes,
        gate: Gate | None = None,
        *,
        tasks: TaskMover | None = None,
        deadline_s: float = 0.5,
        rhythm: Callable[[int], Rhythm | None] = lambda _pid: None,
        root: Path = Path("/"),
    ) -> None:
        self._workers = workers
        self._sizes = sizes
        self._gate = gate or Gate()
        self._tasks = tasks
        self._deadline_s = deadline_s
        self._shared_s = SHARED_SHARE * deadline_s
        # Of its own, since anybody's process can be stuck: that keeps no other question from being asked.
        self._scan = Workers(stuck_limit=1)
        self._scan_s, self._scan_again_s = self._shared_s / 2, 0.0
        self._rhythm = rhythm
        self._since_s: Mapping[ProcessKey, float] = {}  # when pages of those with a rhythm were first wanted
        self._root = root
        self._reclaim = Reclaim(root)
        self._batch = BatchSize(sizes.base_bytes)

    def move(self, plan: Plan) -> tuple[Outcome, ...]:
        deadline_s = time.monotonic() + self._deadline_s
        task_outcomes = self._move_tasks(plan, deadline_s)  # first, since that takes no time
        return (*self._move_pages(plan.moves, deadline_s), *task_outcomes)

    def _move_pages(self, moves: Sequence[MovePages], deadline_s: float) -> Iterator[Outcome]:
        """Carry out one after the other, those for several processes last; then at once those that wait for steps."""
        paces = self._paces(moves, deadline_s)
        at_once = [index for index in range(len(moves)) if index not in paces]
        alone, shared = (
            [i for i in at_once if bool(moves[i].among) == is_shared] for is_shared in (False, True)
        )
        is_any_shared = any(move.among for move in moves)
        behind = int(bool(paces))
        outcomes = self._in_turn(moves, alone, deadline_s - self._shared_s * is_any_shared, behind)
        strangers = self._strangers(moves, deadline_s - self._shared_s / 2)
        moves = [
            replace(move, among=()) if stranger else move
            for move, stranger in zip(moves, strangers, strict=True)
        ]
        shared = [index for index in shared if strangers[index] != IN_TIME]
        deadline_s = max(deadline_s, time.monotonic() + self._shared_s / 2)
        outcomes |= self._in_turn(moves, shared, deadline_s, behind)
        if waiting := {index: pace for index, pace in paces.items() if strangers[index] != IN_TIME}:
            outcomes |= self._together(moves, waiting)
        for index, stranger in enumerate(strangers):
            outcome = outcomes.get(index, Outcome(Ending.DEADLINE))
            yield replace(outcome, detail="; ".join(filter(None, (outcome.detail, stranger))))

    def _in_turn(
        self, moves: Sequence[MovePages], chosen: Sequence[int], deadline_s: float, behind: int
    ) -> dict[int, Outcome]:
        """Carry out one after the other, each for its share of the time, of which so many are for others."""
        outcomes = {}
        for left, index in zip(range(len(chosen), 0, -1), chosen, strict=True):
            now_s = time.monotonic()
            share_s = (deadline_s - now_s) / (left + behind)
            outcomes[index] = self._one(moves[index], Pace(now_s + share_s))
        return outcomes

    def _together(self, moves: Sequence[MovePages], paces: Mapping[int, Pace]) -> dict[int, Outcome]:
        """Carry out those that have paces at once, as far as threads can be started."""
        outcomes = dict.fromkeys(paces, Outcome(Ending.DEADLINE, detail=Unfinished.NO_THREAD.value))

        def carry_out(index: int) -> None:
            outcomes[index] = self._one(moves[index], paces[index])

        with ThreadPoolExecutor(MOST_WAITING) as pool:
            begun = []
            for index in paces:
                with contextlib.suppress(RuntimeError):  # then it waits for one that there is, if any
                    begun.append(pool.submit(carry_out, index))
        for each in begun:
            each.result()
        return outcomes

    def _paces(self, moves: Sequence[MovePages], deadline_s: float) -> dict[int, Pace]:
        """Give the paces of moves that wait for the steps of who maps their pages."""
        now_s, paces, since_s = time.monotonic(), {}, {}
        for index, move in enumerate(moves):
            for process in (move.process, *move.among):
                if self._rhythm(process.pid):
                    since_s[process] = self._since_s.get(process, now_s)
                    paces[index] = Pace(deadline_s, partial(self._rhythm, process.pid), since_s[process])
                    break
        self._since_s = since_s
        return paces

    def _strangers(self, moves: Sequence[MovePages], until_s: float) -> Sequence[str]:
        """Say by move why it cannot be made for all who map its pages, but for its own process alone."""
        shared = [move for move in moves if move.among]
        if not shared or not self._gate.is_open:
            return [""] * len(moves)
        if "CAP_SYS_NICE" not in capabilities.effective():
            return ["CAP_SYS_NICE is missing" if move.among else "" for move in moves]
        began_s = time.monotonic()
        if began_s < self._scan_again_s:
            return [IN_TIME if move.among else "" for move in moves]
        until_s = max(until_s, began_s + self._scan_s)
        scan = partial(_found_strangers, moves, self._root, until_s)
        (found,) = self._scan.run([(shared[0].process, scan)])
        if isinstance(found, list):
            if IN_TIME in found:
                self._scan_s = min(2 * (until_s - began_s), LONGEST_SCAN_S)
                self._scan_again_s = until_s + SCAN_RESTS * (until_s - began_s)
            return found
        why = found.value if isinstance(found, Unfinished) else str(found)
        return [f"who else maps it cannot be told: {why}" if move.among else "" for move in moves]

    def _move_tasks(self, plan: Plan, deadline_s: float) -> tuple[Outcome, ...]:
        if self._tasks is not None:
            return self._tasks.move(plan.task_moves, deadline_s)
        return tuple(Outcome(Ending.REFUSED, detail="nothing would restore them") for _ in plan.task_moves)

    def _one(self, move: MovePages, pace: Pace) -> Outcome:
        if not self._gate.is_open:
            return Outcome(Ending.DRY_RUN)
        began_s = time.monotonic()
        try:
            process = OpenProcess(move.process)
            refusal = _refusal(move)
            self._reclaim.begin()
        except (ProcessLookupError, FileNotFoundError) as error:
            return Outcome(Ending.GONE, detail=str(error))
        except (OSError, Malformed) as error:  # no right, no descriptor left, a file that makes no sense
            return Outcome(Ending.REFUSED, detail=str(error))
        if refusal:
            process.close()
            return Outcome(Ending.REFUSED, detail=refusal)
        transfer = Transfer(move, process, self._sizes, self._batch, self._reclaim, self._gate, pace=pace)
        if self._carry_out(move, transfer):
            process.close()  # else a call that has not returned still needs it
        outcome = transfer.outcome(time.monotonic() - began_s)
        return replace(outcome, detail=outcome.detail or pace.told)

    def _carry_out(self, move: MovePages, transfer: Transfer) -> bool:
        """Let workers do it; say whether all of them came back."""
        returned = not transfer.fits_one_call or self._run(move, transfer, [transfer.by_process])
        # One worker can run out of allowance while another gives some back: hence more turns than one.
        while returned and (chunks := transfer.unfinished):
            returned = self._run(move, transfer, [partial(transfer.by_pages, chunk) for chunk in chunks])
            if transfer.unfinished == chunks:
                break
        return returned

    def _run(self, move: MovePages, transfer: Transfer, calls: Sequence[Callable[[], None]]) -> bool:
        tasks = [(move.process, partial(_undisturbed, call)) for call in calls]
        results = self._workers.run(tasks, threads=THREADS)
        for result in results:
            if isinstance(result, Unfinished):
                transfer.end(Ending.STUCK, result.value)
            elif isinstance(result, OSError):
                transfer.end_by(result)
            elif isinstance(result, Malformed):
                transfer.end(Ending.REFUSED, str(result))
        return Unfinished.STUCK not in results


def _found_strangers(moves: Sequence[MovePages], root: Path, until_s: float) -> list[str] | Malformed:
    try:
        return strangers(moves, root, until_s)
    except Malformed as error:
        return error


def _undisturbed(call: Callable[[], None]) -> Malformed | None:
    """Carry it out in a worker's thread that others seldom preempt: pages on the move are in nobody's reach."""
    with contextlib.suppress(PermissionError):  # without CAP_SYS_NICE it takes longer
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    try:
        call()
    except Malformed as error:
        return error
    return None


def _refusal(move: MovePages) -> str:
    """Say what is against a move by the cpuset as it is now, which the snapshot may be older than."""
    outside = sorted(set(move.targets) - set(proc_status.read(move.process.pid).nodes_allowed))
    return f"node {outside[0]} is outside the cpuset of the process" if outside else ""
