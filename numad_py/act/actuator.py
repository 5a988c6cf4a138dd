# SPDX-License-Identifier: Apache-2.0

"""Carry out a Plan on the live machine, and be back by a deadline."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from numad_py.act.batch_size import BatchSize
from numad_py.act.pages import Sizes
from numad_py.act.reclaim import Reclaim
from numad_py.act.transfer import THREADS, Transfer
from numad_py.kernel import Malformed, proc_status
from numad_py.kernel.identity import OpenProcess
from numad_py.model import Ending, MovePages, Outcome, Plan
from numad_py.roles import Actuator
from numad_py.workers import Unfinished, Workers

NICE = -10  # of threads that move; Linux has it by thread, and these end with the move


class LiveActuator(Actuator):
    """Moves pages of other processes with move_pages(2) and migrate_pages(2).

    Needs CAP_SYS_PTRACE over the processes of others; without it their moves
    end as refused. What it did not get to by the deadline stands in the
    Outcome; nothing queues.
    """

    def __init__(
        self, workers: Workers, sizes: Sizes, *, deadline_s: float = 0.5, root: Path = Path("/")
    ) -> None:
        self._workers = workers
        self._sizes = sizes
        self._deadline_s = deadline_s
        self._reclaim = Reclaim(root)
        self._batch = BatchSize(sizes.base_bytes)

    def move(self, plan: Plan) -> tuple[Outcome, ...]:
        deadline_s = time.monotonic() + self._deadline_s
        outcomes: list[Outcome] = []
        for move in plan.moves:
            now_s = time.monotonic()
            share_s = (deadline_s - now_s) / (len(plan.moves) - len(outcomes))
            outcomes.append(self._one(move, now_s, now_s + share_s))
        return tuple(outcomes)

    def _one(self, move: MovePages, began_s: float, deadline_s: float) -> Outcome:
        try:
            process = OpenProcess(move.process)
            refusal = _refusal(move)
        except (ProcessLookupError, FileNotFoundError) as error:
            return Outcome(Ending.GONE, detail=str(error))
        except (PermissionError, Malformed) as error:
            return Outcome(Ending.REFUSED, detail=str(error))
        if refusal:
            process.close()
            return Outcome(Ending.REFUSED, detail=refusal)
        transfer = Transfer(move, process, self._sizes, self._batch, self._reclaim, deadline_s=deadline_s)
        if self._carry_out(move, transfer):
            process.close()  # else a call that has not returned still needs it
        return transfer.outcome(time.monotonic() - began_s)

    def _carry_out(self, move: MovePages, transfer: Transfer) -> bool:
        """Let workers do it; say whether all of them came back."""
        self._reclaim.begin()
        if transfer.fits_one_call:
            return self._run(move, transfer, [transfer.by_process])
        returned = True
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
        return Unfinished.STUCK not in results


def _undisturbed(call: Callable[[], None]) -> None:
    """Carry it out in a worker's thread that others seldom preempt: pages on the move are in nobody's reach."""
    with contextlib.suppress(PermissionError):  # without CAP_SYS_NICE it takes longer
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    call()


def _refusal(move: MovePages) -> str:
    """Say what is against a move by the cpuset as it is now, which the snapshot may be older than."""
    outside = sorted(set(move.targets) - set(proc_status.read(move.process.pid).nodes_allowed))
    return f"node {outside[0]} is outside the cpuset of the process" if outside else ""
