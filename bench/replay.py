# SPDX-License-Identifier: Apache-2.0

"""Compare replaying a trace under one policy with decoding it.

``python bench/replay.py`` makes a trace of 200 processes with 300 regions and 4 busy threads each, of which every
tenth grows at each tick, prints the CPU time of both per policy, and fails where replaying, decoding
included, takes more than three times decoding.
"""

import statistics
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import profiles, trace
from numad_py.model import Threads
from numad_py.sim import cost, replay
from tests.builders import job, process, regions, tick, topology

PROCESSES, THREADS, REGIONS, TICKS, ROUNDS = 200, 4, 300, 120, 5
RATIO_ALLOWED = 3.0
ON = topology(node_bytes=1 << 40)


def main():
    """Print what decoding and replaying took, and give the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl.zst"
        write(path)
        runs = {"decode": lambda: deque(trace.read(path)[1], maxlen=0)}
        runs |= {name: lambda name=name: replayed(path, name) for name in profiles.names()}
        taken = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                begin = time.process_time()
                run()
                taken[name].append(time.process_time() - begin)
    median = {name: statistics.median(times) for name, times in taken.items()}
    print(
        f"{PROCESSES} processes of {REGIONS} regions and {THREADS} threads, {TICKS} ticks, median of {ROUNDS} interleaved rounds"
    )
    for name, cpu_s in median.items():
        print(f"{name:12} {cpu_s / TICKS * 1e3:6.2f} ms a tick   {cpu_s / median['decode']:5.2f}")
    print(f"ratio to decoding, decoding included: at most {RATIO_ALLOWED}")
    return 0 if max(median.values()) <= RATIO_ALLOWED * median["decode"] else 1


def replayed(path, name):
    """Replay the trace under one profile."""
    header, ticks = trace.read(path)
    policies = {name: profiles.build(profiles.load(name))}
    return replay.scores(ticks, policies, cost.default_prices(header.topology))


def write(path):
    """Write a trace in which every tenth process grows at each tick, and every tenth is late-bound."""
    random = np.random.default_rng(1)
    held = [
        regions(*({home(n): int(pages)} for pages in random.integers(0, 200, REGIONS)), on=ON)
        for n in range(PROCESSES)
    ]
    header = trace.Header(topology=ON, kernel="none", boot_id="0", started_unix_s=0.0)
    with trace.Writer(path, header) as writer:
        for at in range(TICKS):
            for each in range(at % 10, PROCESSES, 10):
                held[each] = grown(held[each], random)
            every = [
                process(1000 + n, regions=rows, threads=running(n), on=ON) for n, rows in enumerate(held)
            ]
            jobs = [job(*every[n : n + 10], cgroup_id=n, path=f"/job{n}") for n in range(0, PROCESSES, 10)]
            writer.write(tick(time_s=5.0 * at, jobs=jobs, on=ON))


def home(number):
    """Say where a process has its memory: where it runs, except every tenth."""
    return (number + (number % 10 == 0)) % 2


def running(number):
    """Give the threads of a process that ran since the last look, all on one node."""
    first = number % 2 * len(ON.nodes[0].cpus)
    tids = np.arange(number * 100, number * 100 + THREADS)
    return Threads(tids, first + tids % len(ON.nodes[0].cpus), np.full(THREADS, 0.9))


def grown(rows, random):
    """Give three rows some pages more."""
    pages = rows.pages.copy()
    pages[random.integers(0, REGIONS, 3), 0] += random.integers(1, 50, 3)
    return replace(rows, pages=pages, anon_pages=pages.sum(axis=1))


if __name__ == "__main__":
    sys.exit(main())
