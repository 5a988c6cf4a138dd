# SPDX-License-Identifier: Apache-2.0

"""Compare replaying a trace under one policy with decoding it, and a long trace's memory with a short one's.

``python bench/replay.py`` makes traces of 200 processes with 300 regions and 4 busy threads each, of which every
tenth grows at each tick: one of a million region rows, one of ten. It prints the CPU time of decoding and of replaying
under each policy, for a million rows of the long trace and for the short one, in which every late-bound process is
still being moved; and the peak memory of replaying each in a process of its own. It fails where a million rows of the
long trace, decoding included, take more than three times decoding, or where it takes a tenth more memory than the short.
"""

import statistics
import subprocess
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

PROCESSES, THREADS, REGIONS, ROUNDS = 200, 4, 300, 5
MILLION_TICKS = -(-1_000_000 // (PROCESSES * REGIONS))
RATIO_ALLOWED, GROWTH_ALLOWED = 3.0, 1.1
ON = topology(node_bytes=1 << 40)


def main():
    """Print what decoding and replaying took, and give the exit status."""
    if len(sys.argv) > 1:
        return print_peak(Path(sys.argv[1]), sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        million, ten = (Path(folder) / f"{millions}.jsonl.zst" for millions in (1, 10))
        write(million, MILLION_TICKS)
        write(ten, 10 * MILLION_TICKS)
        print(
            f"{PROCESSES} processes of {REGIONS} regions and {THREADS} threads, {MILLION_TICKS} ticks a million"
        )
        print("ten million rows, CPU time of one million:")
        quick = compare_times(ten, 10)
        print(f"times decoding, decoding included, median of {ROUNDS} rounds: at most {RATIO_ALLOWED}")
        print("one million rows, from the start of all moves, not held to that:")
        compare_times(million, 1)
        return int(not (compare_peaks(million, ten) and quick))


def compare_times(path, millions):
    """Print the CPU time of each policy beside that of decoding, and say whether it is allowed."""
    runs = {"decode": lambda: deque(trace.read(path)[1], maxlen=0)}
    runs |= {name: lambda name=name: replayed(path, name) for name in profiles.names()}
    taken = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            taken[name].append(time.process_time() - begin)
    ratio = {
        name: statistics.median(a / b for a, b in zip(times, taken["decode"], strict=True))
        for name, times in taken.items()
    }
    for name, times in taken.items():
        print(f"{name:12} {statistics.median(times) / millions * 1e3:6.1f} ms   {ratio[name]:5.2f}")
    return max(ratio.values()) <= RATIO_ALLOWED


def compare_peaks(million, ten):
    """Print the peak memory of each policy over both traces, and say whether it is allowed."""
    growth = []
    for name in profiles.names():
        short, long = (peak_kib(path, name) for path in (million, ten))
        growth.append(long / short)
        print(f"{name:12} {short / 1024:6.1f} MB, ten million rows {long / 1024:6.1f} MB   {growth[-1]:5.2f}")
    print(f"peak memory of ten million rows to that of one: at most {GROWTH_ALLOWED}")
    return max(growth) <= GROWTH_ALLOWED


def peak_kib(path, name):
    """Replay in a process of its own, and give the most memory that it had resident."""
    command = [sys.executable, __file__, str(path), name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(path, name):
    """Replay, and print this process's peak: VmHWM, for ru_maxrss counts what was there before execve() too."""
    replayed(path, name)
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in each]
    print(line.split()[1])
    return 0


def replayed(path, name):
    """Replay the trace under one profile."""
    header, ticks = trace.read(path)
    policies = {name: profiles.build(profiles.load(name))}
    return replay.scores(ticks, policies, cost.default_prices(header.topology))


def write(path, ticks):
    """Write a trace in which every tenth process grows at each tick, and every tenth is late-bound."""
    random = np.random.default_rng(1)
    held = [
        regions(*({home(n): int(pages)} for pages in random.integers(0, 200, REGIONS)), on=ON)
        for n in range(PROCESSES)
    ]
    header = trace.Header(topology=ON, kernel="none", boot_id="0", started_unix_s=0.0)
    with trace.Writer(path, header) as writer:
        for at in range(ticks):
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
