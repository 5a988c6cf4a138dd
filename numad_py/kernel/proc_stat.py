# SPDX-License-Identifier: Apache-2.0

"""Read /proc/PID/stat and /proc/PID/task/TID/stat: what a process or thread is and what it used.

Fields are numbered as in proc_pid_stat(5), and printed by ``do_task_stat()`` in
fs/proc/array.c. Times are clock ticks of 1/sysconf(SC_CLK_TCK) seconds.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numad_py.kernel import Malformed
from numad_py.model import Ints

__all__ = ["Malformed", "Stat", "cpu_times", "parse", "read", "read_threads"]


@dataclass(frozen=True)
class Stat:
    """One process or thread. ``flags`` are the PF_ bits of include/linux/sched.h.

    ``cpu`` is where it ran last. ``comm`` may hold anything, blanks, brackets and
    newlines too; bytes that are not UTF-8 are backslash-escaped.
    """

    pid: int
    comm: str
    state: str
    flags: int
    utime_ticks: int
    stime_ticks: int
    num_threads: int
    start_ticks: int
    rss_pages: int
    cpu: int
    rt_priority: int
    policy: int


def read(pid: int, root: Path = Path("/")) -> Stat:
    """Read /proc/PID/stat."""
    return parse((root / "proc" / str(pid) / "stat").read_bytes())


def read_threads(pid: int, root: Path = Path("/")) -> list[bytes]:
    """Read the stat of every thread of a process; threads that vanish meanwhile are left out.

    Opening relative to the task directory takes half the time of whole paths.
    """
    directory = os.open(root / "proc" / str(pid) / "task", os.O_RDONLY | os.O_DIRECTORY)
    try:
        stats = [_read_thread(tid, directory) for tid in os.listdir(directory)]  # noqa: PTH208 - pathlib knows no descriptors
    finally:
        os.close(directory)
    return [stat for stat in stats if stat]


def parse(text: bytes) -> Stat:
    """Give the fields the daemon uses; Malformed if any is missing or no number."""
    pid, _, rest = text.partition(b" (")
    comm, _, tail = rest.rpartition(b") ")  # the command may hold brackets, nothing behind it does
    fields = tail.split()
    try:
        return Stat(
            pid=int(pid),
            comm=comm.decode(errors="backslashreplace"),
            state=fields[0].decode("ascii"),  # field 3
            flags=int(fields[6]),
            utime_ticks=int(fields[11]),
            stime_ticks=int(fields[12]),
            num_threads=int(fields[17]),
            start_ticks=int(fields[19]),
            rss_pages=int(fields[21]),
            cpu=int(fields[36]),
            rt_priority=int(fields[37]),
            policy=int(fields[38]),
        )
    except (IndexError, ValueError):
        raise Malformed(f"stat: {text[:80]!r}") from None


def cpu_times(stats: Sequence[bytes]) -> tuple[Ints, Ints, Ints]:
    """Give thread id, CPU it ran on last, and ticks used (user and system), as columns.

    Reads four fields a thread where ``parse`` reads twelve: 1 µs a thread, where the
    kernel takes 8 to write it.
    """
    try:
        rows = np.array([_cpu_time(stat) for stat in stats], np.int64).reshape(-1, 3)
    except (IndexError, OverflowError, ValueError):
        raise Malformed("stat: a thread's line has no CPU time") from None
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _cpu_time(stat: bytes) -> tuple[int, int, int]:
    fields = stat[stat.rindex(b")") + 2 :].split(b" ", 37)
    return int(stat[: stat.index(b" ")]), int(fields[36]), int(fields[11]) + int(fields[12])


def _read_thread(tid: str, directory: int) -> bytes:
    """Read a thread's stat, which fits one read(2); nothing if the thread is gone."""
    try:
        stat = os.open(f"{tid}/stat", os.O_RDONLY, dir_fd=directory)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return os.read(stat, 4096)
    except ProcessLookupError:
        return b""
    finally:
        os.close(stat)
