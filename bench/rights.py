# SPDX-License-Identifier: Apache-2.0

"""Which capability opens what of another user's process: the measurements behind the table in docs/security.md.

Needs root, and changes nothing but the affinity of a process of its own, to what that is.
Each row is asked by a child that has these capabilities alone, and a user id that owns nothing.
"""

import ctypes
import multiprocessing
import os
import platform
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import perf_events, placement

OURS, THEIRS = 65533, 65534
BITS: Final = {
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "PERFMON": 38,
}
SETS: Final = (
    *((name,) for name in BITS),
    ("SYS_PTRACE", "SYS_NICE", "PERFMON"),
    ("SYS_PTRACE", "DAC_READ_SEARCH"),
)
CAPABILITY_VERSION_3: Final = 0x20080522  # include/uapi/linux/capability.h
KEEP_CAPABILITIES: Final = 8  # PR_SET_KEEPCAPS, include/uapi/linux/prctl.h


def become(capabilities: tuple[str, ...]) -> None:
    """Give up root and everything but these."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(OURS, OURS, OURS)
    os.setresuid(OURS, OURS, OURS)
    mask = sum(1 << BITS[name] for name in capabilities)
    halves = struct.pack(
        "6I", *[mask & 0xFFFF_FFFF] * 2, 0, *[mask >> 32] * 2, 0
    )  # effective, permitted, inheritable
    if libc.capset(struct.pack("Ii", CAPABILITY_VERSION_3, 0), halves):
        raise OSError(ctypes.get_errno(), "capset")


def read(path: str) -> bool:
    """Read the beginning of a file."""
    with Path(path).open("rb") as file:
        return bool(file.read(64))


def opens(path: str) -> bool:
    """Open a file for writing, and write nothing."""
    os.close(os.open(path, os.O_WRONLY))
    return True


def ask_for_pages(pid: int) -> bool:
    """Ask where the first pages of any address space would be."""
    return len(placement.nodes_of(pid, np.array([0x400000], np.uint64))) == 1


def keep_affinity(pid: int) -> bool:
    """Set the mask that is set."""
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))
    return True


def count(pid: int = -1, cpu: int = -1) -> bool:
    """Open a counter, and let go of it."""
    os.close(perf_events.open_event(perf_events.PAGE_FAULTS, pid=pid, cpu=cpu))
    return True


QUESTIONS: Final[dict[str, Callable[[int], bool]]] = {
    "numa_maps": lambda pid: read(f"/proc/{pid}/numa_maps"),
    "move_pages": ask_for_pages,
    "affinity": keep_affinity,
    "its counters": count,
    "a CPU's counters": lambda _: count(cpu=0),
    "pagemap": lambda pid: read(f"/proc/{pid}/pagemap"),
    "descriptors": lambda pid: Path(f"/proc/{pid}/fd/0").readlink() != Path(),
    "DAMON": lambda _: opens("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds"),
    "frames' flags": lambda _: read("/proc/kpageflags"),
    "iomem": lambda _: not Path("/proc/iomem").read_text().startswith("00000000-00000000"),
}


def answer(pid: int, question: str) -> str:
    """Say whether that may be done."""
    try:
        return "yes" if QUESTIONS[question](pid) else "hidden"
    except PermissionError:
        return "–"
    except FileNotFoundError:
        return "not there"


def answers(pid: int, capabilities: tuple[str, ...]) -> list[str]:
    """Ask everything with these capabilities alone."""
    with multiprocessing.get_context("fork").Pool(1, become, (capabilities,)) as child:
        return child.map(partial(answer, pid), QUESTIONS)


@contextmanager
def another_user() -> Iterator[int]:
    """Give the PID of a process that is not ours."""
    with subprocess.Popen(["sleep", "60"], user=THEIRS, group=THEIRS, stdin=subprocess.DEVNULL) as process:
        yield process.pid
        process.kill()


def main() -> None:
    """Print the table."""
    print(f"Linux {platform.release()}, perf_event_paranoid {paranoid()}\n")
    print(f"| with | {' | '.join(QUESTIONS)} |\n|{' --- |' * (1 + len(QUESTIONS))}")
    with another_user() as pid:
        for capabilities in SETS:
            print(f"| {', '.join(capabilities)} | {' | '.join(answers(pid, capabilities))} |")


def paranoid() -> str:
    """Read what counters ask of those without CAP_PERFMON."""
    return Path("/proc/sys/kernel/perf_event_paranoid").read_text().strip()


if __name__ == "__main__":
    main()
