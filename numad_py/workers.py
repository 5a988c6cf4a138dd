# SPDX-License-Identifier: Apache-2.0

"""Run calls that the kernel may never answer, without ever waiting for one of them.

A page walk or a move can sleep uninterruptibly: behind writeback, a FUSE or NFS
server, or a held mmap lock. So such calls run in threads of their own. One that
takes longer than ``patience_s`` is left to itself: its process is set aside and
named until the call returns, and a new thread goes on with the rest. A task of
many calls says after each that it came back, and the next may take as long; one whose
call has to take long says so before. At most
``stuck_limit`` processes may be in that state; after that nothing is begun.
What no signal can end keeps our own process from ending too: when told to stop,
the loop stops at once, and the process is gone when its last such call returns.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from numad_py.model import ProcessKey

T = TypeVar("T")


class Unfinished(Enum):
    """Why a task has no result."""

    STUCK = "stuck in the kernel"
    POSTPONED = "not begun, too many processes are stuck in the kernel"
    NO_THREAD = "not begun, no thread can be started"


@dataclass(eq=False)
class _Task:
    """What a thread is at: the index of its task, -1 before the first, and when its last call came back."""

    index: int = -1
    since_s: float = field(default_factory=time.monotonic)


_mine = threading.local()


def came_back() -> None:
    """Say, within a task of many calls, that one of them returned: the next may take as long."""
    task = getattr(_mine, "task", None)
    if task is not None:
        task.since_s = time.monotonic()


def expect(call_s: float) -> None:
    """Say, within a task, that its next call takes so long by itself."""
    task = getattr(_mine, "task", None)
    if task is not None:
        task.since_s = time.monotonic() + call_s


@dataclass(eq=False)
class _Run(Generic[T]):
    """One call of ``Workers.run``: what is left to do, what came of it, who is at it."""

    tasks: Sequence[tuple[ProcessKey, Callable[[], T]]]
    left: deque[int] = field(default_factory=deque)
    results: dict[int, T | OSError | Unfinished] = field(default_factory=dict)
    busy: dict[threading.Thread, _Task] = field(default_factory=dict)
    error: BaseException | None = None
    unbegun: Unfinished = Unfinished.POSTPONED


class Workers:
    """Threads for calls that may get stuck, shared by everything that makes such calls."""

    def __init__(self, *, patience_s: float = 1.0, stuck_limit: int = 2) -> None:
        self._patience_s = patience_s
        self._stuck_limit = stuck_limit
        self._changed = threading.Condition()
        self._stuck: Counter[ProcessKey] = Counter()

    @property
    def stuck(self) -> tuple[ProcessKey, ...]:
        """The processes that are set aside now."""
        with self._changed:
            return tuple(sorted(+self._stuck))

    def run(
        self, tasks: Sequence[tuple[ProcessKey, Callable[[], T]]], *, threads: int = 1
    ) -> list[T | OSError | Unfinished]:
        """Run every task; give its result, the OSError it raised, or why it has neither.

        Returns once nothing is running that could still be waited for. Any
        other exception of a task is raised here.
        """
        run = _Run(tasks, deque(range(len(tasks))))
        with self._changed:
            for _ in range(min(threads, len(tasks))):
                self._start(run)
            while run.busy:
                self._changed.wait(self._until_next_is_late(run))
                self._set_aside_the_late(run)
        if run.error is not None:
            raise run.error
        return [run.results.get(index, run.unbegun) for index in range(len(tasks))]

    def _start(self, run: _Run[T]) -> None:
        thread = threading.Thread(target=self._work, args=(run,), name="numad-worker", daemon=True)
        run.busy[thread] = _Task()
        try:
            thread.start()
        except RuntimeError:  # as many tasks as a limit allows: those that there are go on with the rest
            del run.busy[thread]
            if not run.busy:
                run.unbegun = Unfinished.NO_THREAD

    def _work(self, run: _Run[T]) -> None:
        me = threading.current_thread()
        with self._changed:
            while (index := self._next(run)) is not None:
                run.busy[me] = _mine.task = _Task(index)
                self._changed.release()
                try:
                    result = self._attempt(run, index)
                finally:
                    self._changed.acquire()
                if me not in run.busy:  # we were late: the run went on without us
                    self._stuck[run.tasks[index][0]] -= 1
                    return
                run.results[index] = result
            del run.busy[me]
            self._changed.notify_all()

    def _next(self, run: _Run[T]) -> int | None:
        """Take the next task whose process is not set aside; None when there is no more to do."""
        while run.left and run.error is None and len(+self._stuck) < self._stuck_limit:
            index = run.left.popleft()
            if not self._stuck[run.tasks[index][0]]:
                return index
            run.results[index] = Unfinished.STUCK
        return None

    def _attempt(self, run: _Run[T], index: int) -> T | OSError | Unfinished:
        try:
            return run.tasks[index][1]()
        except OSError as error:
            return error
        except BaseException as error:  # noqa: BLE001 - raised again in run()
            run.error = error
            return Unfinished.POSTPONED

    def _until_next_is_late(self, run: _Run[T]) -> float:
        first_s = min(task.since_s for task in run.busy.values())
        return max(first_s + self._patience_s - time.monotonic(), 0.001)

    def _set_aside_the_late(self, run: _Run[T]) -> None:
        before_s = time.monotonic() - self._patience_s
        late = [each for each, task in run.busy.items() if task.index >= 0 and task.since_s < before_s]
        for thread in late:
            index = run.busy.pop(thread).index
            self._stuck[run.tasks[index][0]] += 1
            run.results[index] = Unfinished.STUCK
            if run.left and len(+self._stuck) < self._stuck_limit:
                self._start(run)
