# SPDX-License-Identifier: Apache-2.0

"""Read /sys/devices/system/cpu: which CPUs share a core, a last-level cache or a socket, and which are set apart.

Problem: a machine has hundreds of CPUs, and each has files that name its siblings.
Primitive: one such file names the whole group.
Application: a CPU that some group already names is not asked again.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cpulist
from numad_py.topology import CpuGroups

__all__ = [
    "Malformed",
    "isolated",
    "nohz_full",
    "online",
    "possible",
    "read_cores",
    "read_llcs",
    "read_sockets",
]

_CPUS: Final = Path("sys/devices/system/cpu")
_INDEX: Final = re.compile(r"index[0-9]{1,3}")
# drivers/base/cpu.c print_cpus_nohz_full() prints a mask that was never allocated; recorded machines say both.
_NO_MASK: Final = frozenset({"(null)", "\0"})
_LEVEL: Final = re.compile(r"[0-9]{1,3}")


def online(root: Path) -> tuple[int, ...]:
    """Give the CPUs that are on line."""
    return cpulist.parse((root / _CPUS / "online").read_text("ascii"))


def possible(root: Path) -> tuple[int, ...]:
    """Give the CPUs that there can ever be."""
    return cpulist.parse((root / _CPUS / "possible").read_text("ascii"))


def isolated(root: Path) -> tuple[int, ...]:
    """Give the CPUs that isolcpus= keeps the scheduler's balancing away from."""
    return _listed(root / _CPUS / "isolated")


def nohz_full(root: Path) -> tuple[int, ...]:
    """Give the CPUs that nohz_full= spares the timer's tick."""
    return _listed(root / _CPUS / "nohz_full")


# These two names are older than package_cpus_list and core_cpus_list, and newer kernels print both
# (drivers/base/topology.c).
def read_sockets(cpus: tuple[int, ...], root: Path) -> CpuGroups:
    """Give the CPUs of each socket. Those of which the kernel tells nothing are in none."""
    return _groups(cpus, lambda cpu: _siblings(cpu, "core_siblings_list", root))


def read_cores(cpus: tuple[int, ...], root: Path) -> CpuGroups:
    """Give the SMT siblings of each core. Those of which the kernel tells nothing are in none."""
    return _groups(cpus, lambda cpu: _siblings(cpu, "thread_siblings_list", root))


def read_llcs(cpus: tuple[int, ...], root: Path) -> CpuGroups:
    """Give the CPUs of each last-level cache, on EPYC a CCX. Those whose caches are not told are in none."""
    return _groups(cpus, lambda cpu: _sharing_last_level(root / _CPUS / f"cpu{cpu}/cache"))


def _groups(cpus: tuple[int, ...], group_of: Callable[[int], tuple[int, ...]]) -> CpuGroups:
    known, grouped, groups = set(cpus), set[int](), []
    for cpu in cpus:
        if cpu not in grouped:
            members = tuple(sorted((known - grouped).intersection(group_of(cpu))))
            grouped.update(members)
            groups += [members] if members else []
    return tuple(groups)


def _siblings(cpu: int, name: str, root: Path) -> tuple[int, ...]:
    return _listed(root / _CPUS / f"cpu{cpu}" / "topology" / name)


def _sharing_last_level(caches: Path) -> tuple[int, ...]:
    if not caches.is_dir():  # as on most virtual machines of arm64
        return ()
    levels = {_level(index): index for index in sorted(caches.iterdir()) if _INDEX.fullmatch(index.name)}
    # POWER before Linux v5.12 has no shared_cpu_list; what is shared is not told then.
    return _listed(levels[max(levels)] / "shared_cpu_list") if levels else ()


def _level(index: Path) -> int:
    text = (index / "level").read_text("ascii").strip()
    if not _LEVEL.fullmatch(text):
        raise Malformed(f"{index}/level: not a number: {text[:80]!r}")
    return int(text)


def _listed(path: Path) -> tuple[int, ...]:
    """Give the CPUs of a list that this kernel may not have."""
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return ()
    return () if text in _NO_MASK else cpulist.parse(text)
