# SPDX-License-Identifier: Apache-2.0

"""Plan which events to open, before any is: how many descriptors, how much pinned memory, what each switch costs.

Problem: threads come by the thousand, and so do CPUs; every event takes a descriptor and pins its ring.
Primitive: one event of each thread, or one of each CPU for a whole cgroup.
Application: whichever is fewer. Where even that is over a limit, the threads that ran most, as many as
fit; the rest is named.

Inheriting events are out: such an event may have a ring only when it is bound to a CPU (perf_mmap() in
kernel/events/core.c), so that each thread alive would need one for every CPU, and PERF_EVENT_IOC_REFRESH,
which lets the kernel itself end a window, refuses them.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.sense.investigate.sampling_rate import GRANTED

_BUSY_PAGES: Final = 2  # beside the samples granted: those of one interrupt more, and records of losses
# What an event adds to a switch to or from a thread that is watched: 0.3 to 1.1 µs of 2.6 to 4.2, bench/page_fault_sampling.py.
SWITCH_S: Final = 0.6e-6


@dataclass(frozen=True)
class Limits:
    """What may be taken: descriptors, and bytes of pinned memory."""

    descriptors: int
    pinned_bytes: int


@dataclass(frozen=True)
class Opening:
    """What will be opened, as (PID, CPU) of each event, and what that takes.

    The PID is -1, and ``by_cgroup`` set, where a cgroup is watched on each of its CPUs. ``switch_s`` is
    what a switch between threads costs more. ``left_out`` threads found no place.
    """

    events: tuple[tuple[int, int], ...]
    by_cgroup: bool
    ring_pages: int
    pinned_bytes: int
    switch_s: float
    left_out: int

    def __str__(self) -> str:
        what = "CPUs of a cgroup" if self.by_cgroup else "threads"
        missing = f", {self.left_out} threads left out" if self.left_out else ""
        return (
            f"{len(self.events)} descriptors for {what}, {self.pinned_bytes >> 10} KiB pinned, "
            f"{self.switch_s * 1e6:.1f} µs a switch{missing}"
        )


def plan(
    tids: tuple[int, ...], cpus: tuple[int, ...], limits: Limits, *, record_bytes: int, page_bytes: int
) -> Opening:
    """Plan for some threads, the busiest first; ``cpus`` are empty where there is no cgroup to watch."""
    pages = _ring_pages(record_bytes, page_bytes)
    each = (1 + pages) * page_bytes
    most = max(min(limits.descriptors, limits.pinned_bytes // each), 0)
    by_cgroup = 0 < len(cpus) <= most and len(cpus) < len(tids)
    events = tuple((-1, cpu) for cpu in cpus) if by_cgroup else tuple((tid, -1) for tid in tids[:most])
    left_out = 0 if by_cgroup else len(tids) - len(events)
    return Opening(events, by_cgroup, pages, len(events) * each, SWITCH_S, left_out)


def _ring_pages(record_bytes: int, page_bytes: int) -> int:
    """Give the least power of two of pages that a window's samples cannot overflow."""
    wanted = -(-GRANTED * record_bytes // page_bytes) + _BUSY_PAGES
    return 1 << (wanted - 1).bit_length()


def limits(cpus: int, root: Path = Path("/")) -> Limits:
    """Read half of what this process may still take, the other half being for the rest of the daemon.

    perf_mmap() lets each user pin perf_event_mlock_kb for every CPU online; beyond, RLIMIT_MEMLOCK counts, which is not used.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(os.listdir(root / "proc/self/fd"))  # noqa: PTH208 - names alone are counted
    pinned_kib = int((root / "proc/sys/kernel/perf_event_mlock_kb").read_text())
    return Limits((soft - held) // 2, pinned_kib * 1024 * cpus // 2)
