# SPDX-License-Identifier: Apache-2.0

"""Let the threads of processes run on the CPUs of some nodes.

Problem: a process has threads that nobody may move, threads that somebody bound, and new ones at any moment, which
inherit the mask of whoever started them.
Primitive: a round over its threads gives those that nobody bound, or that we did, the CPUs that are wanted.
Application: all that has to change is noted in one write; then rounds are made until one changes nothing.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from numad_py.act.affinity_journal import ROUNDS, AffinityJournal, Change, Narrowed
from numad_py.act.gate import Gate
from numad_py.act.masks import Mask, Thread
from numad_py.kernel import Malformed, affinity, migration, proc_stat
from numad_py.kernel.identity import HeldProcess
from numad_py.model import Ending, MoveTasks, Outcome, ProcessKey
from numad_py.workers import Unfinished, Workers

TIDY_S: Final = 30.0
BOUND: Final = "bound"


@dataclass(frozen=True)
class _Wish:
    """What is wanted of a process: the CPUs of ``mask``, or with ``whole`` what each thread had before us.

    ``before`` is what those had that have to change.
    """

    process: ProcessKey
    job: Narrowed
    mask: Mask
    whole: bool
    before: Mask = frozenset()


@dataclass(eq=False)
class _Round:
    """What became of the threads of a process: how many got other CPUs, had them, or were left, and why."""

    moved: int = 0
    there: int = 0
    left: Counter[str] = field(default_factory=Counter)
    is_cut: bool = False

    def outcome(self, moved: int = 0, took_s: float = 0.0) -> Outcome:
        """Say what came of it, this being the last round."""
        ending = Ending.DONE if moved or self.there else Ending.REFUSED
        return Outcome(
            Ending.DEADLINE if self.is_cut else ending,
            failed=dict(sorted(self.left.items())),
            took_s=took_s,
            detail="no thread of it may be moved" if ending is Ending.REFUSED and not self.is_cut else "",
            moved_threads=moved,
        )


class TaskMover:
    """Changes affinities as ``MoveTasks`` wishes, and nothing that the journal could not take back.

    ``job_of`` gives the job of a process, without anything noted. Needs CAP_SYS_NICE over the processes of others.
    """

    def __init__(
        self,
        journal: AffinityJournal,
        job_of: Callable[[ProcessKey], Narrowed | None],
        workers: Workers,
        gate: Gate,
        root: Path = Path("/"),
    ) -> None:
        self._journal = journal
        self._job_of = job_of
        self._workers = workers
        self._gate = gate
        self._root = root
        self._tidied_s = time.monotonic()

    def move(self, moves: Sequence[MoveTasks], deadline_s: float) -> tuple[Outcome, ...]:
        """Carry out what can be done by the deadline; answer every move, in order."""
        if not self._gate.is_open:
            return tuple(Outcome(Ending.DRY_RUN) for _ in moves)
        if time.monotonic() >= self._tidied_s + TIDY_S:
            self._journal.tidy()
            self._tidied_s = time.monotonic()
        wishes = self._noted([self._wish(move) for move in moves])
        return tuple(each if isinstance(each, Outcome) else self._run(each, deadline_s) for each in wishes)

    def _wish(self, move: MoveTasks) -> _Wish | Outcome:
        """Say what is to be done, or why not."""
        if affinity.scheduler_is_loaded(self._root):
            return Outcome(
                Ending.REFUSED, detail="a sched_ext scheduler is loaded, which places threads itself"
            )
        try:
            threads = list(self._journal.masks.of_process(move.process))
            cpus = self._journal.masks.of_nodes(move.nodes)
        except (OSError, Malformed) as error:
            return Outcome(Ending.REFUSED, detail=str(error))
        job = self._job_of(move.process)
        if job is None or not threads:
            return Outcome(Ending.GONE, detail="it ended, or left its job")
        every = threads[0].allowed - threads[0].isolated
        if len(cpus & every) < min(max(len(cpus), 1), len(threads)):
            few = "fewer of the CPUs of these nodes than it has threads"
            none = "none of the CPUs of these nodes"
            return Outcome(Ending.REFUSED, detail=f"its cpuset allows {few if cpus & every else none}")
        wish = _Wish(move.process, job, cpus & every, every <= cpus)
        originals = [self._before(job, thread) for thread in threads if not _is_there(wish, thread)]
        for before in originals:
            if before is not None:
                return replace(wish, before=before)
        left = Counter({BOUND: len(originals)} if originals else {})
        return _Round(there=len(threads) - len(originals), left=left).outcome()

    def _noted(self, wishes: Sequence[_Wish | Outcome]) -> Iterable[_Wish | Outcome]:
        """Have on disk what the wishes will change; those that may not be carried out become outcomes."""
        changes = {
            wish: Change(wish.job, wish.process, wish.mask, wish.before)
            for wish in wishes
            if isinstance(wish, _Wish) and not wish.whole
        }
        try:
            refusals = dict(zip(changes, self._journal.note(list(changes.values())), strict=True))
        except OSError as error:
            refusals = dict.fromkeys(changes, f"the journal cannot be written: {error}")
        for wish in wishes:
            why_not = refusals.get(wish) if isinstance(wish, _Wish) else ""
            yield Outcome(Ending.REFUSED, detail=why_not) if why_not else wish

    def _before(self, job: Narrowed, thread: Thread) -> Mask | None:
        """Give what a thread had before us; None where its owner bound it."""
        if thread.is_unbound:
            return thread.original(self._journal.masks.possible)
        return self._journal.before(job, thread)

    def _run(self, wish: _Wish, deadline_s: float) -> Outcome:
        """Let a worker do it: to take a thread off a CPU, the kernel waits for that CPU."""
        try:
            (result,) = self._workers.run([(wish.process, partial(self._carry_out, wish, deadline_s))])
        except Malformed as error:
            return Outcome(Ending.REFUSED, detail=str(error))
        if isinstance(result, Unfinished):
            return Outcome(Ending.STUCK, detail=result.value)
        if isinstance(result, (FileNotFoundError, ProcessLookupError)):
            return Outcome(Ending.GONE, detail=str(result))
        return Outcome(Ending.REFUSED, detail=str(result)) if isinstance(result, OSError) else result

    def _carry_out(self, wish: _Wish, deadline_s: float) -> Outcome:
        """Make rounds until one changes nothing."""
        began_s, moved, last = time.monotonic(), 0, _Round()
        with HeldProcess(wish.process) as process:
            for _ in range(ROUNDS):
                last = self._round(wish, process, deadline_s)
                moved += last.moved
                if not last.moved or last.is_cut:
                    break
        return last.outcome(moved, time.monotonic() - began_s)

    def _round(self, wish: _Wish, process: HeldProcess, deadline_s: float) -> _Round:
        """Change every thread once that is not where it should be."""
        done = _Round()
        for thread in self._journal.masks.of_process(wish.process):
            if not self._gate.is_open or time.monotonic() >= deadline_s:
                done.is_cut = True
                break
            if _is_there(wish, thread):
                done.there += 1
                continue
            with suppress(ProcessLookupError):  # it ended
                why = self._change(wish, thread, process)
                done.moved += not why
                done.left.update([why] if why else [])
        return done

    def _change(self, wish: _Wish, thread: Thread, process: HeldProcess) -> str:
        """Give a thread the CPUs that are wanted, or say why not."""
        before = self._before(wish.job, thread)
        if before is None or (before != wish.before and not wish.whole):
            return BOUND
        stats = proc_stat.read_threads(wish.process.pid, self._root, [thread.tid])
        if not stats or process.has_ended:
            raise ProcessLookupError
        if why := affinity.why_fixed(proc_stat.parse(stats[0])):
            return why
        try:
            migration.set_affinity(thread.tid, before if wish.whole else wish.mask)
        except ProcessLookupError:
            raise
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return ""


def _is_there(wish: _Wish, thread: Thread) -> bool:
    return thread.is_unbound if wish.whole else thread.mask == wish.mask
