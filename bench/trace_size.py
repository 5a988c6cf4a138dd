# SPDX-License-Identifier: Apache-2.0

"""Say how large a day's trace becomes: 200 processes of 300 regions, looked at every 5 s, as .jsonl.zst.

``python bench/trace_size.py [MINUTES]`` writes that many minutes (20 without a word), which hold a keyframe every
60 ticks as a day does, and extrapolates by ticks. It fails where a day takes more than 1 GiB.

Assumed of each process, at each look: 8 of its threads ran, on CPUs and for times that differ each time; with a chance
of 0.3 its regions changed: 3 of them hold more pages, on one node or the other; with one of 0.05 a region came and one
went. Ten processes a minute end, and others begin. All nodes' free and cached memory changes at every look.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import trace
from numad_py.model import REGION_COLUMNS, LookCost, Regions, Snapshot, Threads
from tests.builders import GIB, HEAP, job, node_memory, process, regions, tick, topology

PROCESSES, THREADS, REGIONS, PERIOD_S = 200, 8, 300, 5.0
CHANGED, RECOUNTED, REPLACED, ENDED_PER_TICK = 0.3, 3, 0.05, 10 * PERIOD_S / 60
DAY_TICKS = int(24 * 3600 / PERIOD_S)
DAY_ALLOWED_BYTES = GIB
CPUS = 32
ON = topology(cpus=CPUS, node_bytes=1 << 40)


def main():
    """Print what a day takes, and give the exit status."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    ticks = int(minutes * 60 / PERIOD_S)
    begin_s = time.process_time()
    size_bytes, keyframe_bytes = written(ticks)
    day_bytes = size_bytes / ticks * DAY_TICKS
    print(f"{PROCESSES} processes of {REGIONS} regions, {THREADS} busy threads each, every {PERIOD_S:g} s")
    print(
        f"assumed a look: regions of {CHANGED:.0%} of processes changed, of {REPLACED:.0%} a VMA came and went"
    )
    print(
        f"{ticks} ticks ({minutes:g} minutes): {size_bytes / 2**20:.1f} MB, the first keyframe {keyframe_bytes} bytes"
    )
    print(f"a day of {DAY_TICKS} ticks: {day_bytes / 2**30:.2f} GiB; at most {DAY_ALLOWED_BYTES / 2**30:g}")
    print(f"making and writing them took {time.process_time() - begin_s:.0f} s of CPU")
    return int(day_bytes > DAY_ALLOWED_BYTES)


def written(ticks):
    """Write that many ticks; give the bytes of all, and of the first."""
    random = np.random.default_rng(1)
    held = {1000 + n: begun(random) for n in range(PROCESSES)}
    header = trace.Header(topology=ON, kernel="none", boot_id="0", started_unix_s=0.0)
    with tempfile.TemporaryDirectory() as folder:
        with trace.Writer(Path(folder) / "trace.jsonl.zst", header) as writer:
            writer.write(look(0, held, random))
            first_bytes = writer.size_bytes
            for at in range(1, ticks):
                go_on(held, random)
                writer.write(look(at, held, random))
        return writer.size_bytes, first_bytes


def look(at, held, random):
    """Give the tick in which all processes are as ``held`` says."""
    every = [
        process(pid, regions=rows, threads=running(pid, random), on=ON, start_ticks=pid * 7)
        for pid, rows in held.items()
    ]
    jobs = [
        job(*every[n : n + 10], cgroup_id=2000 + n, path=f"/training.slice/job-{n}.scope")
        for n in range(0, PROCESSES, 10)
    ]
    free, cached = random.integers(1 << 27, 1 << 28, 2), random.integers(1 << 24, 1 << 26, 2)
    memory = node_memory(on=ON, free=dict(enumerate(free << 10)), file=dict(enumerate(cached << 10)))
    cost = LookCost(float(random.random() / 100), float(random.random() / 100))
    time_s = 3600 + PERIOD_S * at + float(random.random()) / 1000
    return tick(replace(Snapshot(time_s, ON, memory, tuple(jobs)), cost=cost))


def begun(random):
    """Give a new process's regions, at addresses of its own, most of its pages on one node."""
    counts = random.integers(1, 20_000, (REGIONS, 2)) * random.permutation([1, 0])
    start = HEAP + int(random.integers(0, 1 << 20)) * GIB
    return regions(*({0: int(a), 1: int(b)} for a, b in counts), on=ON, start=start)


def running(pid, random):
    """Give the threads that ran since the last look, in clock ticks of 10 ms."""
    ticks = random.integers(1, int(PERIOD_S * 100), THREADS)
    return Threads(pid * 100 + np.arange(THREADS), random.integers(0, 2 * CPUS, THREADS), ticks / 100)


def go_on(held, random):
    """Let pages come, regions come and go, and processes end and begin."""
    for pid, rows in held.items():
        if random.random() < CHANGED:
            held[pid] = grown(rows, random)
        if random.random() < REPLACED:
            held[pid] = remapped(held[pid], random)
    for _ in range(int(random.poisson(ENDED_PER_TICK))):
        del held[next(iter(held))]
        held[max(held) + 1] = begun(random)


def grown(rows, random):
    """Give some rows some pages more."""
    pages = rows.pages.copy()
    pages[random.integers(0, len(rows), RECOUNTED), random.integers(0, 2)] += random.integers(
        1, 500, RECOUNTED
    )
    return replace(rows, pages=pages, anon_pages=pages.sum(axis=1))


def remapped(rows, random):
    """Give the rows without one of them, and with a new one behind the last."""
    last = rows.take(np.array([-1]))
    begin = last.end + np.uint64(4096)
    new = replace(last, start=begin, end=begin + (last.end - last.start))
    kept = rows.take(np.delete(np.arange(len(rows)), random.integers(0, len(rows))))
    both = (np.concatenate((getattr(kept, name), getattr(new, name))) for name in REGION_COLUMNS)
    return Regions(*both)


if __name__ == "__main__":
    sys.exit(main())
