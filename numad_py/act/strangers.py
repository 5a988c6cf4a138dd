# SPDX-License-Identifier: Apache-2.0

"""Find out who maps what is about to be moved for several processes, and is none of them.

Problem: MPOL_MF_MOVE_ALL moves a page for all who map it, and no call says who they are.
Primitive: /proc/PID/maps shows device and inode of every file that a process maps, in the same letters
in every process; and who was forked from it, or it from whom, without an exec has its stack where it has.
Application: before a round of moves, one pass over all processes; one stranger is enough to leave it.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from numad_py.kernel import maps, proc_stat
from numad_py.model import MovePages, ProcessKey
from numad_py.workers import came_back

IN_TIME = "who else maps it cannot be told in time"

_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True)
class _Memory:
    """What a move is about: files as maps names them, and the stack address of who has its anonymous memory."""

    files: tuple[bytes, ...]
    start_stack: int | None

    def is_mapped_by(self, text: bytes, stat: proc_stat.Stat) -> bool:
        """Whether a process, whose maps begin with what it maps, has any of it."""
        return stat.start_stack == self.start_stack or any(file in text for file in self.files)


def strangers(moves: Sequence[MovePages], root: Path = Path("/"), until_s: float = math.inf) -> list[str]:
    """Say by move which other process maps its memory, if it is for several and one does, or why not; else nothing.

    Raises OSError where a process may not be looked at, and Malformed.
    """
    said, left = [""] * len(moves), {}
    for number, move in enumerate(moves):
        if not move.among:
            continue
        came_back()
        if time.monotonic() >= until_s:
            return [IN_TIME if move.among else "" for move in moves]
        try:
            left[number] = _memory(move, root)
        except _GONE:
            said[number] = "it ended"
    for key, text, stat in _processes(root):
        if time.monotonic() >= until_s:
            return [IN_TIME if number in left else each for number, each in enumerate(said)]
        for number, memory in tuple(left.items()):
            if key not in moves[number].among and memory.is_mapped_by(text, stat):
                said[number] = f"process {key.pid} ({stat.comm}), which is not of the job, maps it too"
                del left[number]
    return said


def _memory(move: MovePages, root: Path) -> _Memory:
    pid = move.process.pid
    text = maps.read(pid, root)
    vmas, lines = maps.parse(text), text.splitlines()
    first, behind = vmas.end.searchsorted(move.start, side="right"), vmas.start.searchsorted(move.end)
    rows = [row for pair in zip(first.tolist(), behind.tolist(), strict=True) for row in range(*pair)]
    files = {b" %b %b " % tuple(lines[row].split(None, 5)[3:5]) for row in rows if vmas.file[row]}
    is_anonymous = not np.all(vmas.file[rows])
    start_stack = proc_stat.read(pid, root).start_stack if is_anonymous else None
    return _Memory(tuple(sorted(files)), start_stack)


def _processes(root: Path) -> Iterator[tuple[ProcessKey, bytes, proc_stat.Stat]]:
    """Give every process with what it maps and its stat, but for those that end meanwhile."""
    for name in os.listdir(root / "proc"):  # noqa: PTH208 - takes a tenth of the time of iterdir()
        if name.isdigit():
            pid = int(name)
            try:
                text, stat = _looked_at(pid, root)
            except _GONE:
                continue
            came_back()
            if text:  # else a thread of the kernel's, or one that has ended
                yield ProcessKey(pid, stat.start_ticks), text, stat


def _looked_at(pid: int, root: Path) -> tuple[bytes, proc_stat.Stat]:
    text, stat = b"", proc_stat.read(pid, root)
    if stat.is_kernel_thread:  # of which large machines have thousands
        return text, stat
    with suppress(ProcessLookupError):
        text = maps.read(pid, root)
    if text or stat.num_threads == 1:
        return text, stat
    # Where the first thread has ended, only the others show what the process has: exit_mm() in kernel/exit.c.
    for thread in map(proc_stat.parse, proc_stat.read_threads(pid, root)):
        with suppress(*_GONE):
            if text := maps.read_thread(pid, thread.pid, root):
                return text, replace(stat, start_stack=thread.start_stack)
    return b"", stat
