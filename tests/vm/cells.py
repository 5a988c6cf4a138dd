# SPDX-License-Identifier: Apache-2.0

"""Who may move what a workload uses, and what QEMU counts meanwhile: what benches and tests of policies share."""

import contextlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.vm import fill
from tests.vm.access_counts import AccessCounts
from tests.vm.forked import Forked
from tests.vm.guests import Guest
from tests.vm.nine import Workload, running
from tests.vm.service import Daemon

BALANCING = Path("/proc/sys/kernel/numa_balancing")
DAEMON = {
    "mode": "act",
    "period_s": 1.0,
    "budget_core_share": 0.2,
}  # 0.01 on a machine, of which a guest is a twentieth
SETTLED_SHARE, SETTLED_SECONDS = 0.10, 3

Mover = Callable[[], contextlib.AbstractContextManager[int | None]]


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Let nothing move anything."""
    yield


@contextlib.contextmanager
def balancing(*, on: bool = True) -> Iterator[None]:
    """Switch the kernel's NUMA balancing, as it comes."""
    BALANCING.write_text(f"{on:d}")
    try:
        yield
    finally:
        BALANCING.write_text("0")


@contextlib.contextmanager
def numad() -> Iterator[int]:
    """Run Debian's numad, as it comes: it looks every 5 to 15 s."""
    words = Path("/var/log/numad.log")
    begins_at = words.stat().st_size if words.exists() else 0
    subprocess.run(["numad", "-i", "5:15"], check=True)
    time.sleep(1)
    try:
        found = subprocess.run(["pgrep", "-x", "numad"], check=True, stdout=subprocess.PIPE, text=True)
        yield int(found.stdout)
    finally:
        subprocess.run(["numad", "-i", "0"], check=True)
        said = words.read_bytes()[begins_at:].decode(errors="replace").splitlines()
        print(*(f"    numad: {line}" for line in said if "dvising" in line or "oving" in line), sep="\n")


@contextlib.contextmanager
def daemon(**config: object) -> Iterator[int]:
    """Run the daemon, with the CPU time that its budget is on a machine."""
    with tempfile.TemporaryDirectory() as folder:
        service = Daemon(Path(folder), run=Forked, **DAEMON, **config)
        try:
            yield service.process.pid
        finally:
            service.stop()


MOVERS: dict[str, Mover] = {
    "hold": nobody,
    "numad": numad,
    "threshold": daemon,
    "learned": partial(daemon, profiles=["learned"]),
    "gpu-rank": partial(daemon, profiles=["gpu-rank"]),
}
LABELS = {"learned": "learned", "gpu-rank": "gpu-rank"}  # of jobs, by mover; else "default"


def by_second(guest: Guest) -> Iterator[AccessCounts]:
    """Give what was counted in each second, for as long as somebody asks."""
    before, due_s = AccessCounts.read(guest), time.monotonic()
    while True:
        due_s += 1
        time.sleep(max(due_s - time.monotonic(), 0))
        now = AccessCounts.read(guest)
        yield now - before
        before = now


def settled_s(shares: Sequence[float]) -> int | None:
    """Give the first of some seconds in a row that were all nearly local."""
    for second in range(len(shares) - SETTLED_SECONDS + 1):
        if max(shares[second : second + SETTLED_SECONDS]) < SETTLED_SHARE:
            return second
    return None


def measure(
    guest: Guest, workload: Workload, mover: int | None, file: Path, *, label: str, seconds: int
) -> dict[str, Any]:
    """Run a workload, and count from its label on; ``mover`` is the PID of who may move it.

    ``pace_ms`` is what a fixed piece of work took before and after: it tells how much else the host did.
    """
    before_ms, moved_before = _pace_ms(), fill.vmstat("pgmigrate_success")
    with running(workload, label, file):
        cpu_before_s = cpu_s(mover)
        counts = [counted for counted, _ in zip(by_second(guest), range(seconds), strict=False)]
        cpu_used_s = cpu_s(mover) - cpu_before_s
        moved = fill.vmstat("pgmigrate_success") - moved_before
    by_node = sum(counted.by_node for counted in counts)
    return {
        "remote_access_share": round(1 - float(by_node.trace() / by_node.sum()), 4),
        "settled_s": settled_s([counted.remote_share for counted in counts]),
        "moved_pages": moved,
        "mover_cpu_s": round(cpu_used_s, 2),
        "accesses": by_node.tolist(),
        "shares": [round(counted.remote_share, 2) for counted in counts],
        "pace_ms": [before_ms, _pace_ms()],
    }


def cpu_s(pid: int | None) -> float:
    """Give the CPU time of a process."""
    return sum(psutil.Process(pid).cpu_times()[:2]) if pid else 0.0


def _pace_ms() -> float:
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        sum(range(50_000))
        times.append(1e3 * (time.perf_counter() - began_s))
    return round(statistics.median(times), 1)
