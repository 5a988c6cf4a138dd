# SPDX-License-Identifier: Apache-2.0

"""What a look at processes and jobs finds: what they may use, where their memory is, where their threads ran."""

import os
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from numad_py.kernel import Malformed, cgroup, cpuset, numa_maps, proc_stat, proc_status
from numad_py.kernel.cpuset import Cpuset
from numad_py.kernel.numa_maps import NumaMaps
from numad_py.model import RegionKind
from numad_py.sense import opt_in
from numad_py.sense.jobs import uncovered
from numad_py.sense.opt_in import LabelledCgroup, Rules
from numad_py.topology import Ints, Topology

GONE = (FileNotFoundError, ProcessLookupError)
ROWS = ("Huge", "Heap", "Stack", "Private")  # numastat -p's
_ROW_OF = {RegionKind.HEAP: 1, RegionKind.STACK: 2}


@dataclass(frozen=True, eq=False)
class Found:
    """One process. ``memory_bytes`` has the shape (``ROWS``, nodes); ``threads`` counts by the node they ran on last."""

    pid: int
    comm: str
    allowed: Cpuset
    memory_bytes: Ints
    threads: dict[int, int]


@dataclass(frozen=True, eq=False)
class FoundJob:
    """One labelled job; ``allowed`` is None where no cpuset holds for it, ``unread`` says why by PID."""

    path: str
    profile: str
    allowed: Cpuset | None
    processes: tuple[Found, ...]
    unread: dict[int, str]

    def memory_bytes(self, topology: Topology) -> Ints:
        """Add up the memory of what could be read, by node."""
        nothing = np.zeros(len(topology.nodes), np.int64)
        return sum((process.memory_bytes.sum(axis=0) for process in self.processes), start=nothing)

    def threads(self) -> dict[int, int]:
        """Add up the threads of what could be read, by the node they ran on last."""
        return dict(sum((Counter(process.threads) for process in self.processes), start=Counter()))


def process(pid: int, topology: Topology, root: Path) -> Found:
    """Look at one process; raises OSError where it is gone or may not be read."""
    status, stat = proc_status.read(pid, root), proc_stat.read(pid, root)
    placed = numa_maps.parse(numa_maps.read(pid, root), topology.node_ids, topology.page_bytes)
    _, cpus, _ = proc_stat.cpu_times(proc_stat.read_threads(pid, root))
    allowed = Cpuset(status.cpus_allowed, status.nodes_allowed)
    return Found(pid, stat.comm, allowed, _by_row(placed, topology), _by_node(cpus, topology))


def jobs(mount: Path, rules: Rules, topology: Topology, root: Path) -> list[FoundJob]:
    """Look at every labelled job."""
    labelled = opt_in.assign(cgroup.walk(mount), mount, rules)
    return [_job(group, mount, topology, root) for group in labelled.jobs]


def daemons(root: Path) -> dict[int, Cpuset]:
    """Give what each running ``numad-py daemon`` may use, by PID."""
    paths = (path for path in (root / "proc").glob("[0-9]*/cmdline") if _is_daemon(path))
    found = {}
    for path in paths:
        try:
            status = proc_status.read(int(path.parent.name), root)
        except GONE:
            continue
        found[int(path.parent.name)] = Cpuset(status.cpus_allowed, status.nodes_allowed)
    return dict(sorted(found.items()))


def _is_daemon(cmdline: Path) -> bool:
    try:
        words = cmdline.read_bytes().split(b"\0")
    except OSError:
        return False
    names = [os.path.basename(word) for word in words]  # noqa: PTH119 - bytes
    return any(
        first in (b"numad-py", b"numad_py") and second == b"daemon" for first, second in pairwise(names)
    )


def _job(group: LabelledCgroup, mount: Path, topology: Topology, root: Path) -> FoundJob:
    found, unread = [], {}
    for pid in sorted({pid for directory in group.directories for pid in cgroup.procs(directory)}):
        try:
            if why := uncovered(pid, group, root):
                unread[pid] = why
            else:
                found.append(process(pid, topology, root))
        except GONE:
            continue
        except (PermissionError, Malformed) as error:
            unread[pid] = getattr(error, "strerror", None) or str(error)
    allowed = cpuset.read(group.directories[0], mount)
    return FoundJob(group.path, group.profile, allowed, tuple(found), unread)


def _by_row(placed: NumaMaps, topology: Topology) -> Ints:
    row = np.array([_ROW_OF.get(RegionKind(kind), 3) for kind in placed.kind.tolist()], np.int64)
    row[placed.page_bytes != topology.page_bytes] = 0
    memory = np.zeros((len(ROWS), len(topology.nodes)), np.int64)
    np.add.at(memory, row, placed.pages * placed.page_bytes[:, None])
    return memory


def _by_node(cpus: Ints, topology: Topology) -> dict[int, int]:
    """Count threads by node; those on a CPU of no node are left out."""
    table = topology.index_of_cpu
    index = table[np.minimum(cpus, len(table) - 1)]
    counts = np.bincount(index[index >= 0], minlength=len(topology.nodes))
    return {id_: count for id_, count in zip(topology.node_ids, counts.tolist(), strict=True) if count}
