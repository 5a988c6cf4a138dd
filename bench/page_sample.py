# SPDX-License-Identifier: Apache-2.0

"""Where a process of 4 GiB is, by a sample of its pages and by counting all: how right, and how long.

Its regions are of unequal size, 70 % of their pages on node 0 and 30 % on node 1 in no order, and a quarter
absent. A first sample reads the VMAs too; those that come after know them. Run it in a guest:
``python -m tests.vm.guest --guest two-large-nodes --bench bench/page_sample.py``.
"""

import mmap
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from numad_py.kernel import node_sysfs, numa_maps, proc_stat
from numad_py.model import Mempolicy, PlacementSource, ProcessKey
from numad_py.sense.placement import Reader
from tests.vm.job_memory import bind_memory

GIB = 1 << 30
SIZE_BYTES = 4 * GIB
PARTS = (0.5, 0.25, 0.12, 0.06, 0.04, 0.02, 0.01)
ABSENT, FAR = 0.25, 0.3
TRIALS, LEAST_RIGHT = 100, 93
MOST_SHARE = 0.05
ROOT = Path("/")


def live():
    """Be the process: touch the pages, say so, and wait."""
    random = np.random.default_rng(1)
    kept = []
    for part in PARTS:
        pages = int(SIZE_BYTES * part) // mmap.PAGESIZE
        region = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        region.madvise(mmap.MADV_NOHUGEPAGE)
        view = np.frombuffer(region, np.uint8)
        drawn = random.random(pages)
        present, far = drawn >= ABSENT, drawn < ABSENT + FAR * (1 - ABSENT)
        for node, rows in ((0, present & ~far), (1, present & far)):
            bind_memory(node)
            view[np.flatnonzero(rows) * mmap.PAGESIZE] = 1
        kept.append((region, view))
    print("ready", flush=True)
    sys.stdin.read()


def timed(act):
    """Give what it gave, and the CPU time that it took."""
    began_s = time.thread_time()
    return act(), time.thread_time() - began_s


def measure(key):
    """Print how right and how quick; give whether both are as they should be."""
    topology = node_sysfs.read_topology()
    truth = numa_maps.parse(numa_maps.read(key.pid), topology.node_ids, topology.page_bytes).pages.sum(axis=0)
    share = truth[1] / truth.sum()
    reader = Reader(topology, 0.0, 0.0, Mempolicy.UNKNOWN, ROOT)
    rss_pages = proc_stat.read(key.pid).rss_pages
    counts, first, again = [], [], []
    for _ in range(TRIALS):
        counts.append(timed(lambda: numa_maps.read(key.pid))[1])
        first.append(timed(lambda: reader.read(key, rss_pages, lambda: None, None)))
        again.append(timed(lambda: reader.read(key, rss_pages, lambda: None, first[0][0].vmas)))
    counting_s = statistics.median(counts)
    print(
        f"{truth.sum() * mmap.PAGESIZE / GIB:.2f} of {SIZE_BYTES / GIB:.0f} GiB resident, {share:.1%} on node 1; "
        f"numa_maps takes {counting_s * 1e3:.1f} ms"
    )
    return all([judge("first", first, share, counting_s), judge("again", again, share, counting_s)])


def judge(name, samples, share, counting_s):
    """Print how right and how quick these samples are; give whether both are as they should be."""
    assert all(found.source is PlacementSource.PAGE_SAMPLE for found, _ in samples)
    pages = np.array([found.regions.pages.sum(axis=0) for found, _ in samples])
    errors = np.array([found.error_share for found, _ in samples])
    right = int((np.abs(pages[:, 1] / pages.sum(axis=1) - share) <= errors).sum())
    took_s = statistics.median(took_s for _, took_s in samples)
    print(
        f"{name}: {right} of {TRIALS} samples within their own 95 % interval of ±{np.median(errors):.1%} "
        f"(at least {LEAST_RIGHT}); {took_s * 1e3:.2f} ms each, {took_s / counting_s:.1%} of numa_maps "
        f"(at most {MOST_SHARE:.0%})"
    )
    return right >= LEAST_RIGHT and took_s / counting_s < MOST_SHARE


def main():
    """Start the process, measure, and exit 1 if it is not as it should be."""
    job = subprocess.Popen(
        [sys.executable, __file__, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout.readline() == "ready\n"
    good = measure(ProcessKey(job.pid, proc_stat.read(job.pid).start_ticks))
    job.kill()
    job.communicate()
    sys.exit(not good)


if __name__ == "__main__":
    live() if sys.argv[1:] == ["live"] else main()
