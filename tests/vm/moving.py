# SPDX-License-Identifier: Apache-2.0

"""Ask the actuator for moves as the loop does, and the kernel, page by page, what came of them.

``nodes_of_each`` shares no code with the package: a ctypes array, a list, the bare system call.
"""

import ctypes
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from numad_py.act.actuator import LiveActuator
from numad_py.act.batch_size import BatchSize
from numad_py.act.pace import Pace
from numad_py.act.pages import Sizes
from numad_py.act.reclaim import Reclaim
from numad_py.act.transfer import Transfer
from numad_py.kernel import hugepages, migration
from numad_py.kernel.identity import OpenProcess
from numad_py.model import MovePages, Plan, ProcessKey, Reason
from numad_py.workers import Workers

PAGE = 4096
HUGE = 2 << 20
MB = 1 << 20
SIZES = Sizes(PAGE, hugepages.pmd_bytes())
LONG_S = 120.0

_MOVE_PAGES = {"x86_64": 279, "aarch64": 239}
_libc = ctypes.CDLL(None, use_errno=True)


def nodes_of_each(pid, start, end, step=PAGE):
    """Give the node of each page, or the kernel's negative errno, in order."""
    addresses = list(range(start, end, step))
    pages = (ctypes.c_void_p * len(addresses))(*addresses)
    status = (ctypes.c_int * len(addresses))()
    # long move_pages(int pid, unsigned long count, void *pages[], const int nodes[], int status[], int flags);
    result = _libc.syscall(
        ctypes.c_long(_MOVE_PAGES[os.uname().machine]),
        ctypes.c_int(pid),
        ctypes.c_ulong(len(addresses)),
        pages,
        ctypes.c_void_p(None),
        status,
        ctypes.c_int(0),
    )
    assert result == 0, os.strerror(ctypes.get_errno())
    return list(status)


def pages_on(workload, node):
    """Give the numbers of a workload's pages that are on a node, as the kernel says."""
    where = nodes_of_each(workload.pid, workload.start, workload.end)
    return tuple(page for page, found in enumerate(where) if found == node)


def stayed_pages(workload, outcome):
    """Give the page numbers of the ranges that an outcome says have stayed."""
    ranges = zip(outcome.stayed_start.tolist(), outcome.stayed_end.tolist(), strict=True)
    return tuple(
        (address - workload.start) // PAGE for start, end in ranges for address in range(start, end, PAGE)
    )


def block_of(workload):
    """Give the number of the first page of the first whole block that could be a huge page."""
    return -workload.start % HUGE // PAGE


def read(pid, name):
    """Give the lines of a file of a process."""
    return Path(f"/proc/{pid}/{name}").read_text().splitlines()


def rows_on(pid, node):
    """Give the words of every line of numa_maps that has pages on a node."""
    return [line.split() for line in read(pid, "numa_maps") if f" N{node}=" in line]


def key_of(pid):
    """Give the identity of a process."""
    return ProcessKey(pid, int(Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[19]))


def move_of(workload, *, source=0, target=1, page_bytes=PAGE, limit_bytes=None, key=None):
    """Wish that the memory of a workload were elsewhere."""
    column = (np.array([workload.start], np.uint64), np.array([workload.end], np.uint64))
    return MovePages(
        key or key_of(workload.pid),
        *column,
        np.array([page_bytes]),
        sources=(source,),
        targets=(target,),
        limit_bytes=limit_bytes or workload.end - workload.start,
        reason=Reason.MEMORY_FOLLOWS_CPU,
    )


def act(move, *, patience_s=LONG_S):
    """Let a live actuator carry out one move."""
    actuator = LiveActuator(Workers(patience_s=patience_s), SIZES, deadline_s=LONG_S)
    (outcome,) = actuator.move(Plan((move,)))
    return outcome


class Steady(BatchSize):
    """A batch that stays as it began."""

    def learn(self, page_bytes, pages, cpu_s):
        """Learn nothing."""


def act_in_steady_batches(move):
    """Carry out one move in batches of 64 base pages, or one huge page, one after the other."""
    with OpenProcess(move.process) as process:
        limits = (Steady(PAGE), Reclaim(Path("/")))
        transfer = Transfer(move, process, SIZES, *limits, pace=Pace(float("inf")))
        try:
            for index in range(len(transfer.chunks)):
                transfer.by_pages(index)
        except OSError as error:
            transfer.end_by(error)
        return transfer.outcome(0.0)


@dataclass
class Calls:
    """The moving calls that were made, and what to do after which of them."""

    addresses: list[list[int]] = field(default_factory=list)
    by_process: int = 0
    after: dict = field(default_factory=dict)

    def wrap(self, monkeypatch):
        """Note every call on its way to the kernel."""
        move_pages, migrate_pages = migration.move_pages, migration.migrate_pages

        def noted_pages(pid, addresses, target, **how):
            answer = move_pages(pid, addresses, target, **how)
            self.addresses.append(addresses.tolist())
            self.after.get(len(self.addresses), lambda: None)()
            return answer

        def noted_process(pid, sources, target):
            self.by_process += 1
            return migrate_pages(pid, sources, target)

        monkeypatch.setattr(migration, "move_pages", noted_pages)
        monkeypatch.setattr(migration, "migrate_pages", noted_process)
        return self
