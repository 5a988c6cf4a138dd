# SPDX-License-Identifier: Apache-2.0

"""Measure what sampling page faults costs a process that does nothing but fault, in alternation with no sampling.

    python bench/page_fault_sampling.py [--mb 10240] [--rounds 5] [--sampler-only]

Prints the process's time beside no sampler (the median of each, of the ratio round by round, and of the shortest:
other load only ever adds), how many samples would have counted as accesses (each a false one, since nothing but
first touches happens), the sampler's own CPU time, what an open event costs a fault (one that is off, one that
counts, and some that sample), and what it adds to a switch between threads.
"""

import argparse
import ctypes
import mmap
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from numad_py.kernel import node_sysfs, perf_events, proc_stat
from numad_py.kernel.perf_ring import Ring
from numad_py.model import Process, ProcessKey, Regions, Threads
from numad_py.sense.investigate.access_sampling import AccessSampler
from numad_py.sense.investigate.access_sources import HINT_FAULTS

CHUNK = 256 << 20
PAGE = mmap.PAGESIZE
RING_PAGES = 1024
SWITCHES = 20_000


def fault(chunks):
    """Touch new pages one by one; give the CPU time it took, and the time on the clock."""
    cpu_s, clock_s = 0.0, 0.0
    for _ in range(chunks):
        memory = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        hold = ctypes.c_char.from_buffer(memory)
        began, began_clock = time.thread_time(), time.monotonic()
        ctypes.memset(ctypes.addressof(hold), 1, CHUNK)
        cpu_s += time.thread_time() - began
        clock_s += time.monotonic() - began_clock
        del hold
        memory.close()
    return cpu_s, clock_s


def child(chunks):
    """Fault once for every line on stdin."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(*fault(chunks), flush=True)


class Child:
    """The process that faults."""

    def __init__(self, mb):
        words = [sys.executable, __file__, "--child", "--mb", str(mb)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        self.faults = mb * (1 << 20) // PAGE

    def run(self):
        """Let it fault, and give its CPU seconds."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[0])

    def close(self):
        """End it."""
        self.process.kill()
        self.process.communicate()

    def as_process(self, topology):
        """Describe it as a snapshot does, its whole address space one region."""
        pid = self.process.pid
        start, end = np.array([0], np.uint64), np.array([1 << 47], np.uint64)
        one, pages = np.ones(1, np.int64), np.ones((1, len(topology.nodes)), np.int64)
        regions = Regions(start, end, one * PAGE, one * 0, one * 0, one, one * 0, one * 0, one, pages)
        key = ProcessKey(pid, proc_stat.read(pid).start_ticks)
        threads = Threads(np.array([pid]), np.array([0]), np.array([1.0]))
        return Process(key, "child", topology.node_ids, threads, regions, 0.0)


def sampled(child, topology):
    """Let the child fault under a sampler; give its CPU seconds, and the sampler."""
    sampler = AccessSampler(topology, HINT_FAULTS)
    sampler.start([child.as_process(topology)])
    time.sleep(0.02)
    took_s = child.run()
    sampler.stop()
    return took_s, sampler


def with_event(child, *, period=None, counting=False):
    """Let the child fault beside one event, off, counting or sampling."""
    sampling = perf_events.Sampling(period, HINT_FAULTS.fields) if period else None
    event = perf_events.open_event(perf_events.PAGE_FAULTS, pid=child.process.pid, sampling=sampling)
    ring = Ring(event, RING_PAGES) if period else None
    if period or counting:
        perf_events.enable(event)
    took_s = child.run()
    if ring:
        ring.close()
    os.close(event)
    return took_s


def against(name, base, other, faults):
    """Print one comparison."""
    ratios = [after / before for before, after in zip(base, other, strict=True)]
    extra_ns = (statistics.median(other) - statistics.median(base)) / faults * 1e9
    print(
        f"{name:<28}{statistics.median(other):8.3f} s   ratio {statistics.median(ratios):.4f}"
        f" ({min(ratios):.4f} to {max(ratios):.4f}), of the shortest {min(other) / min(base):.4f}"
        f"   {extra_ns:+7.1f} ns a fault"
    )


def events(mb, rounds):
    """Measure what an open event costs a fault."""
    small = Child(mb)
    small.run()
    kinds = {"an event off": {}, "an event counting": {"counting": True}}
    kinds |= {f"an event of period {period}": {"period": period} for period in (4096, 64, 1)}
    bases, others = {name: [] for name in kinds}, {name: [] for name in kinds}
    for _ in range(rounds):
        for name, how in kinds.items():
            bases[name].append(small.run())
            others[name].append(with_event(small, **how))
    for name in kinds:
        against(name, bases[name], others[name], small.faults)
    small.close()


def hand_over(rounds):
    """Hand a byte back and forth between two processes on one CPU; give the seconds for a switch."""
    there, back = os.pipe(), os.pipe()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peer = os.fork()
    if peer == 0:
        for _ in range(rounds):
            os.write(back[1], os.read(there[0], 1))
        os._exit(0)
    began = time.monotonic()
    for _ in range(rounds):
        os.write(there[1], b"x")
        os.read(back[0], 1)
    took_s = time.monotonic() - began
    os.waitpid(peer, 0)
    for end in (*there, *back):
        os.close(end)
    return took_s / (2 * rounds)


def switches(rounds):
    """Measure what an event adds to a switch to or from the one thread that has it."""
    was = os.sched_getaffinity(0)
    without, beside = [], []
    for _ in range(rounds):
        without.append(hand_over(SWITCHES))
        event = perf_events.open_event(
            perf_events.PAGE_FAULTS, pid=0, sampling=perf_events.Sampling(1, HINT_FAULTS.fields)
        )
        ring = Ring(event, 4)
        perf_events.set_period(event, 1 << 20)
        perf_events.refresh(event, 1000)
        beside.append(hand_over(SWITCHES))
        ring.close()
        os.close(event)
    os.sched_setaffinity(0, was)
    print(
        f"a switch {statistics.median(without) * 1e6:.2f} µs (shortest {min(without) * 1e6:.2f}), "
        f"beside an event {statistics.median(beside) * 1e6:.2f} µs (shortest {min(beside) * 1e6:.2f})"
    )


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=10240)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sampler-only", action="store_true")
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options.mb * (1 << 20) // CHUNK)
        return
    topology = node_sysfs.read_topology(Path("/"))
    faulting = Child(options.mb)
    faulting.run()
    base, again, under, false, spent = [], [], [], 0, []
    for _ in range(options.rounds):
        base.append(faulting.run())
        took_s, sampler = sampled(faulting, topology)
        under.append(took_s)
        again.append(faulting.run())
        false += sum(int(found.counts.sum()) for found in sampler.collect().values())
        spent.append(sampler.cost_s / took_s)
        print(*sampler.problems, sep="\n", end="\n" if sampler.problems else "")
    print(
        f"{options.mb} MB, {options.rounds} rounds, {statistics.median(base) / faulting.faults * 1e9:.0f} ns a fault"
    )
    against("without a sampler, again", base, again, faulting.faults)
    between = [(before + after) / 2 for before, after in zip(base, again, strict=True)]
    against("under the sampler", between, under, faulting.faults)
    print(f"false accesses {false}, the sampler's own time {statistics.median(spent):.4f} of a core")
    faulting.close()
    if not options.sampler_only:
        events(min(options.mb, 1024), options.rounds)
    switches(options.rounds)


if __name__ == "__main__":
    main()
