# SPDX-License-Identifier: Apache-2.0

"""What a process feels of being looked at: ``sudo python bench/pain.py``.

A victim with many pages maps, touches and unmaps memory in a loop, which needs its mmap lock
for writing; a daemon that observes it runs and stands still in turn. Printed are the times of
the victim's operations in both, and their ratio. Needs root and a cgroup v2 mount.
"""

import argparse
import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from numad_py.kernel import cgroup

TURN_S = 5.0
PAGES = 16
RESIDENT_MB = 256  # in regions of 8 MB, which 14 ms of page tables take to walk
MOST_RATIO = 1.05


def victim(turns):
    """Map, touch and unmap; give the times of the operations of each turn, in ns."""
    kept = [
        mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(RESIDENT_MB // 8)
    ]
    for region in kept:
        region.madvise(mmap.MADV_NOHUGEPAGE)
        region[::4096] = b"1" * (len(region) // 4096)
    times = []
    for begin in turns:
        begin()
        until_ns = time.perf_counter_ns() + int(TURN_S * 1e9)
        took_ns = []
        now_ns = time.perf_counter_ns()
        while now_ns < until_ns:
            with mmap.mmap(-1, PAGES * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as region:
                region[::4096] = b"1" * PAGES
            before_ns, now_ns = now_ns, time.perf_counter_ns()
            took_ns.append(now_ns - before_ns)
        times.append(np.array(took_ns))
    return times


@contextlib.contextmanager
def observed():
    """Put ourselves into a labelled cgroup, and start a daemon that observes it."""
    group = cgroup.read_mount_point() / "numad-py-pain"
    group.mkdir()
    os.setxattr(group, cgroup.LABEL, b"default")
    before = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":")[2]
    (group / "cgroup.procs").write_text(str(os.getpid()))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "numad.yaml"
        config.write_text("mode: observe\n")
        words = [sys.executable, "-m", "numad_py", "daemon", "--config", str(config)]
        daemon = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            home = cgroup.read_mount_point() / before.lstrip("/")
            (home / "cgroup.procs").write_text(str(daemon.pid))
            time.sleep(5)
            yield daemon
        finally:
            daemon.kill()
            daemon.wait()
            (home / "cgroup.procs").write_text(str(os.getpid()))
            time.sleep(0.5)
            group.rmdir()


def shown(name, times_ns):
    """Print one line; give the figure that is compared."""
    p50, p999 = np.percentile(times_ns, [50, 99.9]) / 1e3
    print(
        f"{name:<16} {len(times_ns):>9} operations, p50 {p50:7.1f} µs, p99.9 {p999:7.1f} µs, longest {times_ns.max() / 1e3:9.1f} µs"
    )
    return p999


def main():
    """Print both, and the ratio at p99.9; exit 1 if it is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    with observed() as daemon:
        turns = [lambda: os.kill(daemon.pid, signal.SIGCONT), lambda: os.kill(daemon.pid, signal.SIGSTOP)]
        times = victim(turns * rounds)
        os.kill(daemon.pid, signal.SIGCONT)
    with_sensor = shown("looked at", np.concatenate(times[::2]))
    without = shown("not looked at", np.concatenate(times[1::2]))
    print(f"ratio at p99.9: {with_sensor / without:.3f} (at most {MOST_RATIO})")
    sys.exit(bool(with_sensor > MOST_RATIO * without))


if __name__ == "__main__":
    main()
