# SPDX-License-Identifier: Apache-2.0

"""Tell whether the affinity of a thread is anybody's to change."""

import errno
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cgroup
from numad_py.kernel.proc_stat import Stat

__all__ = ["Malformed", "scheduler_is_loaded", "threads_in", "why_fixed"]

_PF_NO_SETAFFINITY: Final = 0x0400_0000  # include/linux/sched.h
_OTHER_CLASSES: Final = {1: "real-time", 2: "real-time", 6: "deadline"}  # include/uapi/linux/sched.h SCHED_*
_SCHED_EXT: Final = Path("sys/kernel/sched_ext/state")  # Documentation/scheduler/sched-ext.rst
_NO_THREADS: Final = {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}


def why_fixed(stat: Stat) -> str:
    """Say why a thread must be left where it is; empty where it may be moved."""
    if stat.is_kernel_thread:
        return "kernel-thread"
    if stat.flags & _PF_NO_SETAFFINITY:  # workers of io_uring among others
        return "no-setaffinity"
    return _OTHER_CLASSES.get(stat.policy, "")


def scheduler_is_loaded(root: Path) -> bool:
    """Say whether a sched_ext scheduler, which places threads as it likes, is loaded or about to be."""
    try:
        return (root / _SCHED_EXT).read_text("ascii").strip() != "disabled"
    except FileNotFoundError:  # a kernel without it
        return False


def threads_in(directory: Path) -> tuple[int, ...]:
    """Give the threads of one cgroup, ascending, those of threaded ones too; none where it is gone."""
    try:
        return cgroup.pids((directory / "cgroup.threads").read_bytes())
    except OSError as error:
        if error.errno in _NO_THREADS:
            return ()
        raise
