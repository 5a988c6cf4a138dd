# SPDX-License-Identifier: Apache-2.0

"""Do pieces of work in processes of their own, and end all of them at once.

Problem: replays are independent of each other, and one core is too few for many of them.
Primitive: a server is started once and imports what the work needs; each process is forked from it, while it has no
threads. It ignores Ctrl-C before its first line runs, and so do they: one process, ours, hears it and kills the rest.
Application: what a piece raises is raised here, and nothing of the others is waited for.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any, Final, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Tell = Callable[[int], None]

_LOOK_S: Final = 0.1  # between two looks at how far the others are
_told: dict[str, Any] = {}  # in a process of the pool: the count that all share


def usable_cpus() -> int:
    """Count the CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def results(
    work: Callable[[Piece, Tell], Result], pieces: Sequence[Piece], *, jobs: int, tell: Tell
) -> Iterator[tuple[int, Result]]:
    """Yield the number of each piece and what came of it, as they end, from up to so many processes.

    ``work`` is a function of a module, given a piece and whom to tell how much more of it is done; that is told on to
    ``tell`` here. One piece, or one job, needs no other process. Raises ChildProcessError where a process was killed.
    """
    jobs = min(jobs, len(pieces))
    if jobs > 1:
        yield from _in_processes(work, pieces, jobs, tell)
    else:
        yield from ((number, work(piece, tell)) for number, piece in enumerate(pieces))


def _in_processes(
    work: Callable[[Piece, Tell], Result], pieces: Sequence[Piece], jobs: int, tell: Tell
) -> Iterator[tuple[int, Result]]:
    _start_server(work.__module__)
    context, others = multiprocessing.get_context("forkserver"), set(multiprocessing.active_children())
    done = context.Value("Q", 0)
    executor = ProcessPoolExecutor(jobs, context, _begin, (done,))
    try:
        pending = {executor.submit(_do, work, piece): number for number, piece in enumerate(pieces)}
        yield from _as_they_end(pending, lambda: int(done.value), tell)
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process of the replay was killed, most likely for want of memory: try fewer --jobs"
        ) from None
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _as_they_end(
    pending: dict[Future[Result], int], done: Callable[[], int], tell: Tell
) -> Iterator[tuple[int, Result]]:
    told = 0
    while pending:
        ended, _ = wait(pending, _LOOK_S, FIRST_COMPLETED)
        told, before = done(), told
        tell(told - before)
        for future in ended:
            yield pending.pop(future), future.result()


def _start_server(module: str) -> None:
    forkserver.set_forkserver_preload(["__main__", module])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(done: Any) -> None:
    _told["done"] = done
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """Leave nobody behind who works for a process that was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _do(work: Callable[[Piece, Tell], Result], piece: Piece) -> Result:
    return work(piece, _add)


def _add(count: int) -> None:
    with _told["done"].get_lock():
        _told["done"].value += count
