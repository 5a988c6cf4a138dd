# SPDX-License-Identifier: Apache-2.0

"""Small model values for tests: say what matters, the rest is plausible.

Nodes are named by id everywhere: ``process(pages={0: 900, 1: 100}, cpu_s={1: 0.5})`` has
900 pages on node 0, 100 on node 1, and used half a second of CPU on node 1.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace

import numpy as np
from hypothesis import strategies as st

from numad_py.model import (
    Accesses,
    AccessSource,
    Ending,
    Held,
    Job,
    JobCounters,
    JobMemory,
    Judged,
    LookCost,
    Mempolicy,
    MovePages,
    MoveTasks,
    NodeMemory,
    Outcome,
    PlacementSource,
    Plan,
    Process,
    ProcessKey,
    Reason,
    Refusal,
    RegionKind,
    Regions,
    Skipped,
    Snapshot,
    ThreadGroup,
    Threads,
    Tick,
    Verdict,
)
from numad_py.topology import Device, DeviceKind, Node, Topology

GIB = 1 << 30
MIB = 1 << 20
HEAP = 0x5555_0000_0000


def topology(nodes=2, *, ids=None, cpus=2, cpuless=(), node_bytes=GIB, remote=21, page_bytes=4096):
    """Give that many nodes (or those ``ids``) with ``cpus`` CPUs each, numbered upwards, except ``cpuless`` ones."""
    ids = tuple(range(nodes)) if ids is None else tuple(ids)
    with_cpus = [node for node in ids if node not in cpuless]
    first = {node: cpus * index for index, node in enumerate(with_cpus)}
    cpus_of = {node: tuple(range(first[node], first[node] + cpus)) for node in with_cpus}
    return Topology(
        nodes=tuple(Node(node, cpus_of.get(node, ()), node_bytes) for node in ids),
        distances=tuple(tuple(10 if a == b else remote for b in ids) for a in ids),
        page_bytes=page_bytes,
    )


TWO_NODES = topology()


def by_node(counts, on=TWO_NODES):
    """Turn ``{node id: number}`` into an array along the node axis."""
    return np.array([counts.get(node, 0) for node in on.node_ids], np.int64)


def regions(
    *rows,
    on=TWO_NODES,
    start=HEAP,
    gap_bytes=MIB,
    page_bytes=4096,
    kind=RegionKind.ANON,
    mempolicy=Mempolicy.DEFAULT,
    mapmax=1,
    backing=0,
):
    """Give one region per ``{node id: pages}``, one after the other from ``start``, fully resident."""
    pages = np.array([by_node(row, on) for row in rows], np.int64).reshape(len(rows), len(on.nodes))
    total = pages.sum(axis=1)
    sizes = np.maximum(total, 1) * page_bytes
    starts = start + np.concatenate(([0], np.cumsum(sizes + gap_bytes)))[:-1].astype(np.int64)
    every = np.ones(len(rows), np.int64)
    return Regions(
        start=starts.astype(np.uint64),
        end=(starts + sizes).astype(np.uint64),
        page_bytes=every * page_bytes,
        kind=every * int(kind),
        mempolicy=every * int(mempolicy),
        mapmax=every * mapmax,
        backing=every * backing,
        offset=(starts - start) * (backing > 0),
        anon_pages=total * (kind != RegionKind.FILE),
        pages=pages,
    )


def threads(cpu_s, on=TWO_NODES, first_tid=1000):
    """Give one thread per ``{node id: CPU seconds}``, on the first CPU of its node."""
    return Threads(
        tid=np.arange(first_tid, first_tid + len(cpu_s), dtype=np.int64),
        cpu=np.array([on.nodes[on.index_of[node]].cpus[0] for node in cpu_s], np.int64),
        cpu_s=np.array(list(cpu_s.values()), np.float64),
    )


def process(
    pid=1000,
    *,
    pages=None,
    cpu_s=None,
    regions=None,
    threads=None,
    comm="python3",
    on=TWO_NODES,
    nodes_allowed=None,
    start_ticks=7,
    placement_age_s=0.0,
):
    """Give a process with one anonymous region of ``pages``, or with exactly these ``regions`` and ``threads``."""
    return Process(
        key=ProcessKey(pid, start_ticks),
        comm=comm,
        nodes_allowed=on.node_ids if nodes_allowed is None else tuple(nodes_allowed),
        threads=_threads(cpu_s or {}, on, pid) if threads is None else threads,
        regions=_regions(*([pages] if pages else []), on=on) if regions is None else regions,
        placement_age_s=placement_age_s,
    )


_threads, _regions = threads, regions  # process() takes arguments of the same names


def job(*processes, cgroup_id=1, path="/train.slice/job", profile="default", memory=None):
    """Give a labelled job of these processes."""
    return Job(cgroup_id, path, profile, processes, memory)


def node_memory(*, free=None, on=TWO_NODES, high_watermark=8 * MIB, **columns):
    """Give nodes half free; ``free`` and ``file``, ``inactive_file``, ``dirty``, ``anon`` are ``{node id: bytes}``."""
    total = np.array([node.total_bytes for node in on.nodes], np.int64)
    names = ("file", "inactive_file", "dirty", "anon")
    return NodeMemory(
        total_bytes=total,
        free_bytes=total // 2 if free is None else by_node(free, on),
        high_watermark_bytes=np.full(len(on.nodes), high_watermark, np.int64),
        **{f"{name}_bytes": by_node(columns.pop(name, {}), on) for name in names},
        **columns,
    )


def snapshot(time_s=100.0, *, jobs=(), processes=(), on=TWO_NODES, memory=None, skipped=()):
    """Give one look; ``processes`` is short for one job of them."""
    jobs = (*jobs, job(*processes)) if processes else tuple(jobs)
    return Snapshot(time_s, on, node_memory(on=on) if memory is None else memory, jobs, tuple(skipped))


def move(
    process, *, sources=(0,), targets=(1,), limit_bytes=GIB, reason=Reason.MEMORY_FOLLOWS_CPU, whole=False
):
    """Wish to move every region of the process."""
    rows = process.regions
    return MovePages(
        process.key, rows.start, rows.end, rows.page_bytes, sources, targets, limit_bytes, reason, whole
    )


def tick(
    snapshot=None, *, moves=(), outcomes=None, held=(), task_moves=(), task_outcomes=(), judged=(), **looked
):
    """Give one turn of the loop; without ``outcomes`` every move is done. ``looked`` goes to ``snapshot()``."""
    answers = tuple(Outcome(Ending.DONE) for _ in moves) if outcomes is None else tuple(outcomes)
    seen = _snapshot(**looked) if snapshot is None else snapshot
    plan = Plan(tuple(moves), tuple(held), tuple(task_moves), tuple(judged))
    return Tick(seen, plan, answers, tuple(task_outcomes))


_snapshot = snapshot


def plain(value):
    """Turn any model value into tuples, lists and numbers, which ``==`` compares deeply."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tolist()
    if is_dataclass(value):
        return type(value), {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    return dict(value) if isinstance(value, Mapping) else value


# Strategies. Regions lie in a few fixed slots, so that drawing twice gives rows that
# stayed, changed, came and went.

SLOTS = 4
counts = st.integers(0, 1 << 40)
page_counts = st.integers(0, 64)  # of 2 MiB at most, for no region may hold more than the machine
seconds = st.floats(0, 1e9)
names = (st.binary(max_size=15) | st.sampled_from([rb"python3", rb"a\x2db", rb"\xff"])).map(os.fsdecode)
figures = st.dictionaries(st.sampled_from(["remote_share", "saving_ns"]), st.floats(-1e9, 1e9), max_size=2)
keys = st.builds(ProcessKey, st.integers(1, 3), st.integers(0, 1))


def columns(values, length, dtype=np.int64):
    """Draw one array of exactly that length."""
    return st.lists(values, min_size=length, max_size=length).map(lambda drawn: np.array(drawn, dtype))


@st.composite
def drawn_topologies(draw):
    """Draw one to three nodes with sparse ids, some without CPUs, and what else a kernel may tell of a machine."""
    ids = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=3)))
    on = topology(ids=ids, cpuless=draw(st.sets(st.sampled_from(ids))), cpus=draw(st.integers(1, 3)))
    groups = st.sampled_from([(), tuple(node.cpus for node in on.nodes)])
    told = st.none() | st.integers(1, 300_000)
    return replace(
        on,
        nodes=tuple(
            replace(
                node,
                gpu=node.id > min(ids) and draw(st.booleans()),
                tier=draw(told),
                read_latency_ns=draw(told),
                read_mb_per_s=draw(told),
            )
            for node in on.nodes
        ),
        sockets=draw(groups),
        llcs=draw(groups),
        cores=draw(groups),
        isolated_cpus=draw(st.sampled_from([(), (0, 1)])),
        nohz_full_cpus=draw(st.sampled_from([(), (1,)])),
        devices=draw(st.sampled_from([(), (Device("0000:01:00.0", DeviceKind.GPU, None),)])),
        demotes=draw(st.booleans()),
    )


@st.composite
def drawn_regions(draw, on=TWO_NODES):
    """Draw no to four regions, ascending."""
    slots = np.array(sorted(draw(st.sets(st.integers(0, SLOTS - 1)))), np.uint64)
    rows, nodes = len(slots), len(on.nodes)
    backing = draw(columns(st.integers(0, 3), rows))
    start = HEAP + slots * GIB
    few = st.integers(0, 3)
    return Regions(
        start=start,
        end=start + 4096 * draw(columns(st.integers(1, 3), rows, np.uint64)),
        page_bytes=draw(columns(st.sampled_from([4096, 2 * MIB]), rows)),
        kind=draw(columns(st.sampled_from([int(kind) for kind in RegionKind]), rows)),
        mempolicy=draw(columns(st.sampled_from([int(mempolicy) for mempolicy in Mempolicy]), rows)),
        mapmax=draw(columns(few, rows)),
        backing=backing,
        offset=draw(columns(counts, rows)) * (backing > 0),
        anon_pages=draw(columns(few, rows)),
        pages=draw(columns(few | page_counts, rows * nodes)).reshape(rows, nodes),
    )


@st.composite
def drawn_threads(draw):
    """Draw no to three threads."""
    length = draw(st.integers(0, 3))
    cpus = st.integers(0, 12)
    return Threads(
        draw(columns(counts, length)),
        draw(columns(cpus, length)),
        draw(columns(st.floats(0, 1), length, np.float64)),
    )


@st.composite
def drawn_accesses(draw, on=TWO_NODES):
    """Draw no to three regions, and one or two groups."""
    length, number = draw(st.integers(0, 3)), draw(st.integers(1, 2))
    start = np.sort(draw(columns(st.integers(0, (1 << 47) - 1), length, np.uint64)))
    groups = [
        ThreadGroup(
            draw(st.none() | st.sampled_from(on.node_ids)),
            draw(columns(counts, draw(st.integers(0, 2)))),
            draw(columns(seconds, len(on.nodes), np.float64)),
        )
        for _ in range(number)
    ]
    cells = [draw(columns(counts, length)) for _ in groups]
    return Accesses(
        draw(st.sampled_from(AccessSource)),
        tuple(groups),
        start,
        start + np.uint64(4096),
        np.array(cells, np.int64).reshape(number, length).T,
        draw(st.none() | counts),
        draw(seconds),
    )


def drawn_counters():
    """Draw what counters said of a job."""
    perhaps = st.none() | seconds
    names_of_events = st.sampled_from(["cycles", "page-faults"])
    counted = st.dictionaries(names_of_events, seconds)
    return st.builds(
        JobCounters, seconds, counted, perhaps, perhaps, perhaps, st.none() | st.booleans(), st.booleans()
    )


def drawn_processes(on=TWO_NODES):
    """Draw one process out of a few keys."""
    return st.builds(
        Process,
        keys,
        names,
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
        drawn_threads(),
        drawn_regions(on),
        seconds | st.just(math.inf),
        seconds | st.just(math.inf),
        st.sampled_from(PlacementSource),
        st.floats(0, 1),
        st.lists(st.sampled_from(["0000:3b:00.0", "0001:01:00.0"]), max_size=2).map(tuple),
        st.none() | drawn_accesses(on),
    )


def drawn_jobs(on=TWO_NODES):
    """Draw one job, often empty."""
    memory = st.builds(JobMemory, columns(counts, len(on.nodes)), columns(counts, len(on.nodes)))
    processes = st.lists(drawn_processes(on), max_size=2).map(tuple)
    counters = st.none() | drawn_counters()
    told = (counters, st.booleans(), st.none() | seconds, seconds)
    return st.builds(Job, counts, names, names, processes, st.none() | memory, *told)


def drawn_snapshots(on=TWO_NODES, time_s=seconds):
    """Draw one look at a machine with that topology."""
    memory = st.builds(NodeMemory, *[columns(st.integers(0, GIB), len(on.nodes))] * 7)
    skipped = st.lists(st.builds(Skipped, keys, names, names), max_size=2).map(tuple)
    jobs = st.lists(drawn_jobs(on), max_size=2).map(tuple)
    cost = st.builds(LookCost, seconds, seconds, st.lists(keys, max_size=2).map(tuple), seconds)
    return st.builds(Snapshot, time_s, st.just(on), memory, jobs, skipped, cost)


@st.composite
def drawn_moves(draw):
    """Draw one wish over no to three ranges."""
    length = draw(st.integers(0, 3))
    addresses = columns(st.integers(0, (1 << 47) - 1), length, np.uint64)
    nodes = st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple)
    return MovePages(
        draw(keys),
        np.sort(draw(addresses)),
        np.sort(draw(addresses)),
        draw(columns(st.sampled_from([4096, 2 * MIB]), length)),
        draw(nodes),
        draw(nodes),
        draw(counts),
        draw(st.sampled_from(Reason)),
        draw(st.booleans()),
        draw(figures),
        tuple(draw(st.lists(keys, max_size=2))),
    )


@st.composite
def drawn_outcomes(draw):
    """Draw what became of one move."""
    stayed = draw(st.integers(0, 2))
    addresses = columns(st.integers(0, (1 << 47) - 1), stayed, np.uint64)
    return Outcome(
        ending=draw(st.sampled_from(Ending)),
        moved_bytes=draw(counts),
        failed=draw(st.dictionaries(st.sampled_from(["EBUSY", "ENOENT", "unmovable"]), counts)),
        stayed_start=draw(addresses),
        stayed_end=draw(addresses),
        reached=draw(st.integers(0, (1 << 47) - 1)),
        took_s=draw(seconds),
        call_s=tuple(draw(st.lists(seconds, max_size=2))),
        detail=draw(names),
        moved_threads=draw(counts),
    )


@st.composite
def drawn_ticks(draw, on=TWO_NODES, time_s=seconds):
    """Draw one turn of the loop, its outcomes answering its moves."""
    moves = draw(st.lists(drawn_moves(), max_size=2))
    held = draw(st.lists(st.builds(Held, keys, counts, st.sampled_from(Refusal), figures), max_size=2))
    nodes = st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple)
    wishes = st.builds(MoveTasks, keys, nodes, st.sampled_from(Reason), figures)
    task_moves = draw(st.lists(wishes, max_size=2))
    judged = draw(st.lists(st.builds(Judged, counts, st.sampled_from(Verdict), figures), max_size=2))
    return Tick(
        draw(drawn_snapshots(on, time_s)),
        Plan(tuple(moves), tuple(held), tuple(task_moves), tuple(judged)),
        tuple(draw(drawn_outcomes()) for _ in moves),
        tuple(draw(drawn_outcomes()) for _ in task_moves),
    )


@st.composite
def drawn_runs(draw, max_ticks=4):
    """Draw the ticks of one run on one machine, in order of time."""
    on = draw(drawn_topologies())
    times = sorted(draw(st.lists(seconds, max_size=max_ticks, unique=True)))
    return [draw(drawn_ticks(on, st.just(time_s))) for time_s in times]
