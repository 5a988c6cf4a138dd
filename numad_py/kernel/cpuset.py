# SPDX-License-Identifier: Apache-2.0

"""Read what a cgroup's cpuset allows: on which CPUs its threads may run, on which nodes it may have memory."""

import errno
from dataclasses import dataclass
from pathlib import Path

from numad_py.kernel import Malformed, cpulist

__all__ = ["Cpuset", "Malformed", "read"]


@dataclass(frozen=True)
class Cpuset:
    """The CPUs and nodes that remain when all cpusets above are taken into account."""

    cpus: tuple[int, ...]
    nodes: tuple[int, ...]


def read(directory: Path, mount: Path) -> Cpuset | None:
    """Give the cpuset that holds for a cgroup: its own, or that of the nearest above that has the controller.

    None where there is none up to ``mount``: version 1 has the controller, or nobody.
    """
    depth = len(directory.relative_to(mount).parts)
    for cgroup in (directory, *directory.parents)[: depth + 1]:
        try:
            cpus = cpulist.parse((cgroup / "cpuset.cpus.effective").read_text("ascii"))
            return Cpuset(cpus, cpulist.parse((cgroup / "cpuset.mems.effective").read_text("ascii")))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # no controller here, or the cgroup is gone
                raise
    return None
