# SPDX-License-Identifier: Apache-2.0

"""Two made-up minutes on two nodes: one job of every kind that placement is about.

Run as ``python -m numad_py.sim.synthetic FILE`` it writes the trace that is shipped in sim/traces/. Placement in it is
what first touch gives while nothing is moved.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from numad_py.model import (
    Ints,
    Job,
    Mempolicy,
    Node,
    NodeMemory,
    Plan,
    Process,
    ProcessKey,
    RegionKind,
    Regions,
    Snapshot,
    Threads,
    Tick,
    Topology,
)
from numad_py.trace import Header, Writer

MIB: Final = 1 << 20
TICKS: Final = 120
SEED: Final = 20
BOUND_AT: Final = 5
TOPOLOGY: Final = Topology(
    nodes=(Node(0, tuple(range(8)), 4096 * MIB), Node(1, tuple(range(8, 16)), 4096 * MIB)),
    distances=((10, 21), (21, 10)),
    page_bytes=4096,
)
HEADER: Final = Header(
    topology=TOPOLOGY,
    kernel="none: made up",
    boot_id="00000000-0000-0000-0000-000000000000",
    started_unix_s=0.0,
    sources=("numad_py.sim.synthetic",),
    clock="simulated",
    tool_version="0",
)
_LIBRARIES_MIB: Final = (24, 8)  # by node, mapped by every process
_CACHE_MIB: Final = (900, 400)


@dataclass(frozen=True)
class _Script:
    """One job of one process: cores in use and MiB held by node, at each tick."""

    name: str
    cores: Callable[[int], tuple[float, float]]
    heap_mib: Callable[[int], tuple[int, int]]
    arena_mib: tuple[int, int] = (0, 0)


def _growing(tick: int) -> tuple[int, int]:
    """Give 4 MiB more each tick, first touched on node 0 and, from the middle on, on node 1."""
    half = TICKS // 2
    return 64 + 4 * min(tick, half), 4 * max(tick - half, 0)


SCRIPTS: Final = (
    _Script("late-bound", lambda tick: (1.0, 0.0) if tick < BOUND_AT else (0.0, 1.0), lambda _: (400, 0)),
    _Script("crossed-a", lambda _: (2.0, 0.0), lambda _: (10, 300)),
    _Script("crossed-b", lambda _: (0.0, 2.0), lambda _: (300, 10)),
    _Script("halves", lambda _: (1.0, 1.0), lambda _: (256, 0), (0, 256)),
    _Script("idle", lambda _: (0.0, 0.0), lambda _: (0, 500)),
    _Script("growing", lambda tick: (1.0, 0.0) if tick < TICKS // 2 else (0.0, 1.0), _growing),
)


def ticks() -> Iterator[Tick]:
    """Yield the same ticks every time, one a second."""
    random = Random(SEED)  # noqa: S311 - noise, not a secret
    for tick in range(TICKS):
        jobs = tuple(_job(number, script, tick, random) for number, script in enumerate(SCRIPTS, 1))
        yield Tick(Snapshot(float(tick), TOPOLOGY, _memory(jobs), jobs), Plan(), ())


def _job(number: int, script: _Script, tick: int, random: Random) -> Job:
    process = Process(
        key=ProcessKey(1000 + number, number),
        comm="python3",
        nodes_allowed=TOPOLOGY.node_ids,
        threads=_threads(1000 + number, script.cores(tick), random),
        regions=_regions(script.heap_mib(tick), script.arena_mib),
        placement_age_s=0.0,
    )
    return Job(number, f"/training.slice/{script.name}.scope", "hold", (process,), None)


def _threads(first_tid: int, cores: tuple[float, float], random: Random) -> Threads:
    """Give one thread per core in use, each a little less than fully busy, in clock ticks of 10 ms."""
    nodes = [node for node, count in enumerate(cores) for _ in range(int(count))]
    cpus = [TOPOLOGY.nodes[node].cpus[position % 8] for position, node in enumerate(nodes)]
    cpu_s = [(95 + int(random.random() * 6)) / 100 for _ in nodes]
    tids = np.arange(first_tid, first_tid + len(nodes), dtype=np.int64)
    return Threads(tids, np.array(cpus, np.int64), np.array(cpu_s, np.float64))


def _regions(heap_mib: tuple[int, int], arena_mib: tuple[int, int]) -> Regions:
    """Give a heap, an arena, a stack on the heap's first node, and libraries that every process maps."""
    pages = np.array([heap_mib, arena_mib, (1, 0) if heap_mib[0] else (0, 1), _LIBRARIES_MIB], np.int64) * (
        MIB // 4096
    )
    start = np.array([0x5555_0000_0000, 0x7F00_0000_0000, 0x7F80_0000_0000, 0x7FA0_0000_0000], np.uint64)
    kind = np.array([RegionKind.HEAP, RegionKind.ANON, RegionKind.STACK, RegionKind.FILE], np.int64)
    rows = len(kind)
    return Regions(
        start=start,
        end=start + np.maximum(pages.sum(axis=1) * 4096, 4096).astype(np.uint64),
        page_bytes=np.full(rows, 4096),
        kind=kind,
        mempolicy=np.full(rows, int(Mempolicy.DEFAULT)),
        mapmax=np.where(kind == RegionKind.FILE, len(SCRIPTS), 1),
        anon_pages=np.where(kind == RegionKind.FILE, 0, pages.sum(axis=1)),
        pages=pages,
    )


def _memory(jobs: tuple[Job, ...]) -> NodeMemory:
    regions = [process.regions for job in jobs for process in job.processes]
    anon: Ints = sum(
        (each.resident_bytes[each.kind != RegionKind.FILE].sum(axis=0) for each in regions),
        np.zeros(2, np.int64),
    )
    total = np.array([node.total_bytes for node in TOPOLOGY.nodes], np.int64)
    cache = np.array(_CACHE_MIB, np.int64) * MIB
    return NodeMemory(
        total_bytes=total,
        free_bytes=total - cache - anon - 200 * MIB,
        high_watermark_bytes=np.full(2, 16 * MIB),
        file_bytes=cache,
        inactive_file_bytes=cache // 2,
        dirty_bytes=np.full(2, 2 * MIB),
        anon_bytes=anon,
    )


if __name__ == "__main__":
    with Writer(Path(sys.argv[1]), HEADER) as writer:
        for each in ticks():
            writer.write(each)
