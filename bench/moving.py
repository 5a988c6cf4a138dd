# SPDX-License-Identifier: Apache-2.0

"""Move the same 200 MiB with our actuator and with Debian's migratepages, in turn.

Our time includes the verification of every page; migratepages verifies nothing.
Run it in the two-node guest: ``python -m tests.vm.guest --bench bench/moving.py``.
"""

import os
import statistics
import subprocess
import sys
import time

import numpy as np

from numad_py.act.actuator import LiveActuator
from numad_py.act.pages import Sizes
from numad_py.kernel import hugepages, proc_stat
from numad_py.model import Ending, MovePages, Plan, ProcessKey, Reason
from numad_py.workers import Workers

MB = 200
RUNS = 7
LEAST_RATIO = {"4k": 1.2, "huge": 1.0}


def start_job(pages):
    """Start a job that has touched its memory; give it with its addresses."""
    words = [sys.executable, "-m", "tests.vm.workloads", "late-bound", f"--mb={MB}", f"--pages={pages}"]
    job = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _, start, end = job.stdout.readline().split()
    return job, int(start, 16), int(end, 16)


def ours_s(actuator, key, start, end, source, target):
    """Time our own move."""
    one = np.array([start], np.uint64), np.array([end], np.uint64), np.array([os.sysconf("SC_PAGE_SIZE")])
    move = MovePages(key, *one, (source,), (target,), end - start, Reason.MEMORY_FOLLOWS_CPU)
    began_s = time.monotonic()
    (outcome,) = actuator.move(Plan((move,)))
    took_s = time.monotonic() - began_s
    if outcome.moved_bytes != end - start or outcome.ending not in (Ending.DONE, Ending.LIMIT):
        raise SystemExit(f"only {outcome.moved_bytes} of {end - start} bytes arrived: {outcome}")
    return took_s


def migratepages_s(pid, source, target):
    """Time the peer."""
    began_s = time.monotonic()
    subprocess.run(["migratepages", str(pid), str(source), str(target)], check=True)
    return time.monotonic() - began_s


def spread(times_s):
    """Give the median between the extremes."""
    return f"{statistics.median(times_s):.3f} s ({min(times_s):.3f} to {max(times_s):.3f})"


def bench(pages):
    """Give the ratio of the medians, ours in the denominator."""
    job, start, end = start_job(pages)
    key = ProcessKey(job.pid, proc_stat.read(job.pid).start_ticks)
    sizes = Sizes(os.sysconf("SC_PAGE_SIZE"), hugepages.pmd_bytes())
    actuator = LiveActuator(Workers(patience_s=60), sizes, deadline_s=60)
    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(ours_s(actuator, key, start, end, 0, 1))
        peer.append(migratepages_s(job.pid, 1, 0))
    job.kill()
    job.communicate()
    ratio = statistics.median(peer) / statistics.median(ours)
    print(
        f"{pages:>5} pages, {MB} MiB, {RUNS} runs in turn: ours {spread(ours)}, "
        f"migratepages {spread(peer)}, ratio {ratio:.2f} (at least {LEAST_RATIO[pages]})",
        flush=True,
    )
    return ratio


def main():
    """Print both ratios; exit 1 if one is missed."""
    ratios = {pages: bench(pages) for pages in LEAST_RATIO}
    sys.exit(any(ratios[pages] < LEAST_RATIO[pages] for pages in LEAST_RATIO))


if __name__ == "__main__":
    main()
