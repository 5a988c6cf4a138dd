# SPDX-License-Identifier: Apache-2.0

"""Read on which CPUs threads may run, beside those that their cpuset would give them if nobody had bound them."""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numad_py.kernel import affinity, cgroup, cpu_sysfs, cpuset, node_sysfs, proc_stat
from numad_py.model import ProcessKey

Mask = frozenset[int]

_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True)
class Thread:
    """One thread: where it may run, and all that its cpuset allows."""

    tid: int
    mask: Mask
    allowed: Mask
    isolated: Mask

    @property
    def is_unbound(self) -> bool:
        """Whether nobody chose its CPUs.

        A thread begins without the CPUs of isolcpus= and inherits that; one that was put into a cpuset since has
        them, if the cpuset has: kernel/cgroup/cpuset.c cpuset_attach_task().
        """
        return self.mask in (self.allowed, self.allowed - self.isolated)

    def bears(self, mask: Mask) -> bool:
        """Whether it was given that mask, or may have been, where the cpuset hides it.

        Since Linux commit 8f9ea86fdf99 ("sched: Always preserve the user requested cpumask") (in v6.2) a thread
        keeps what it was given over changes of its cpuset, and runs where both allow, or where the cpuset does if
        that is nowhere; before, it is unbound after a change.
        """
        seen = mask & self.allowed
        is_hidden = not seen or seen >= self.allowed - self.isolated
        return self.is_unbound if is_hidden else self.mask == seen

    def original(self, possible: Mask) -> Mask:
        """Give what an unbound thread would have to ask for to be what it is: all CPUs but those it never had.

        Its cpuset cuts that down as it did before, however it changes meanwhile.
        """
        return possible - (self.allowed - self.mask)


class Masks:
    """The threads of jobs and of processes, as the kernel tells them now."""

    def __init__(self, mount: Path, root: Path = Path("/")) -> None:
        self._mount = mount
        self._root = root

    @cached_property
    def possible(self) -> Mask:
        """Every CPU that there can ever be."""
        return frozenset(cpu_sysfs.possible(self._root))

    def of_nodes(self, nodes: Iterable[int]) -> Mask:
        """Give the CPUs of these nodes on which the scheduler balances."""
        cpus = (cpu for node in nodes for cpu in node_sysfs.read_cpus(node, self._root))
        return frozenset(cpus) - frozenset(cpu_sysfs.isolated(self._root))

    def of_job(self, top: Path, apart: Collection[int] = ()) -> Iterator[Thread]:
        """Give every thread in a cgroup and below it, but not in those with these ids, nor below them."""
        for path, below, _ in os.walk(top):
            directory = Path(path)
            if _is_one_of(directory, apart):
                below.clear()
            else:
                yield from self._threads(affinity.threads_in(directory), directory)

    def of_process(self, process: ProcessKey) -> Iterator[Thread]:
        """Give every thread of a process, wherever that is now; none where it is gone."""
        with suppress(*_GONE):
            if proc_stat.read(process.pid, self._root).start_ticks == process.start_ticks:
                directory = self._mount / cgroup.path_of(process.pid, self._root)[1:]
                tids = (int(entry.name) for entry in (self._root / f"proc/{process.pid}/task").iterdir())
                yield from self._threads(sorted(tids), directory)

    def _threads(self, tids: Iterable[int], directory: Path) -> Iterator[Thread]:
        found = cpuset.read(directory, self._mount)
        allowed = frozenset(found.cpus if found else cpu_sysfs.online(self._root))
        isolated = frozenset(cpu_sysfs.isolated(self._root))
        for tid in tids:
            with suppress(ProcessLookupError):
                yield Thread(tid, frozenset(os.sched_getaffinity(tid)), allowed, isolated)


def _is_one_of(directory: Path, ids: Collection[int]) -> bool:
    with suppress(FileNotFoundError):
        return bool(ids) and cgroup.cgroup_id(directory) in ids
    return False
