# SPDX-License-Identifier: Apache-2.0

"""Spread what several nodes use hard, so that one node's memory does not have to serve them all.

Problem: where no part of memory belongs to a node, it is as far on any node that uses it; but all of it on one node is
served with that node's bandwidth alone, and where nobody runs it is farther for all.
Primitive: the cores that a node's memory has to serve, beside those that it can (`prices.streams`). Beyond that
all who reach for it wait for as much longer; and how much longer they wait for distance than if it lay among them.
Application: page by page over the nodes that use it, if that pays for itself, distance counted too. CPU time does not
tell what is asked of memory: who is not known to compute is taken to stream.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from numad_py import prices
from numad_py.model import Job, MovePages, Process, ProcessKey, Reason, Snapshot
from numad_py.policies.candidates import moving_ns_per_byte
from numad_py.policies.homes import POSSIBLE_SHARE, SEVERAL
from numad_py.policies.wishes import MB, UNKNOWN, Evidence, Weigh, Wish
from numad_py.topology import Bools, Floats, Ints, Topology

LEAST_USE_SHARE: Final = 0.1  # of the CPU time, for a node to get a part
LEAST_USE_OF_EVEN: Final = 0.4  # of an even share, where nodes are so many that this is less
# For distance alone it is spread where more than this share lies where none of its threads runs, and all wait for it more
# than so many times as long as they would then.
FAR_SHARE: Final = 0.1
FAR_RATIO: Final = 1.05


class Use(NamedTuple):
    """By process the cores of each node that it used when it was last read, who was read now, and which jobs compute."""

    cores: Mapping[ProcessKey, Floats]
    read: Collection[ProcessKey]
    computing: Collection[int]


class Spreading:
    """Weighs what one job shares, by number of its backing."""

    def __init__(self, weigh: Weigh) -> None:
        self._weigh = weigh
        self._evidence: dict[int, Evidence] = {}

    def decide(
        self, backings: Iterable[int], job: Job, use: Use, on: Topology
    ) -> Iterator[tuple[int, MovePages | None]]:
        """Give those of these backings that several nodes use hard, and the move where one is to be made."""
        before, self._evidence = self._evidence, {}
        for backing in backings:
            sharing = {each: rows for each in job.processes if (rows := _rows(each, backing)).any()}
            used = np.sum([use.cores[each.key] for each in sharing], axis=0)
            mover, rows = max(sharing.items(), key=lambda each: int(each[0].regions.pages[each[1]].sum()))
            wish = None if job.cgroup_id in use.computing else _wish(mover, rows, used, on)
            evidence = before.get(backing, UNKNOWN)
            if any(each.key in use.read for each in sharing):
                evidence = self._weigh(evidence, wish)
            self._evidence[backing] = evidence
            if wish:
                among = tuple(each.key for each in job.processes)
                asked = replace(move(mover, rows, wish, on), among=among, figures=_figures(wish))
                yield backing, asked if evidence.acting and wish.remote_bytes else None


def wishes(
    snapshot: Snapshot, home: Ints, cores: Floats, told: Mapping[int, object], computing: Collection[int]
) -> dict[int, Wish]:
    """Give by row of its process what it uses hard on several nodes, but for those of which was told who uses what."""
    computes = np.array([job.cgroup_id in computing for job in snapshot.jobs], bool)
    computes = np.repeat(computes, [len(job.processes) for job in snapshot.jobs])
    rows = np.flatnonzero((home == SEVERAL) & ~computes)
    found = {
        row: _wish(process := snapshot.processes[row], process.regions.movable, cores[row], snapshot.topology)
        for row in rows.tolist()
        if row not in told
    }
    return {row: wish for row, wish in found.items() if wish}


def move(process: Process, rows: Bools, wish: Wish, on: Topology) -> MovePages:
    """Wish for these regions to be spread."""
    held = process.regions.resident_bytes * on.may_leave
    chosen = rows & (held.sum(axis=1) > 0)
    regions, sources = process.regions.take(chosen), held[chosen].sum(axis=0) > 0
    return MovePages(
        process.key,
        regions.start,
        regions.end,
        regions.page_bytes,
        sources=tuple(node.id for node, has in zip(on.nodes, sources.tolist(), strict=True) if has),
        targets=wish.targets,
        limit_bytes=wish.remote_bytes,
        reason=Reason.SPREAD,
    )


def _wish(process: Process, rows: Bools, cores: Floats, on: Topology) -> Wish | None:
    """Weigh these regions as they lie beside as they would; None where one node's memory serves all who use them, as near."""
    least_share = min(LEAST_USE_SHARE, LEAST_USE_OF_EVEN / on.has_cpus.sum())
    over = on.has_cpus & np.isin(on.node_ids, process.nodes_allowed) & (cores >= least_share * cores.sum())
    possible = (cores <= POSSIBLE_SHARE * on.cpus_by_node).all()
    if not possible or over.sum() < 2:  # noqa: PLR2004 - several
        return None
    held = process.regions.resident_bytes[rows].sum(axis=0) * on.may_leave
    every = max(int(held.sum()), 1)
    hard = _asking(cores[None], on)[0] > prices.streams(on)[over].max()
    if not hard and held[~over].sum() <= FAR_SHARE * every:
        return None
    even = over * held.sum() // over.sum()
    away = int(np.maximum(held - even, 0).sum())
    now, then = _waited(np.array([cores, cores]), np.array([held, even]) / every, on).tolist()
    if not hard and now <= FAR_RATIO * then:
        return None
    return Wish(
        tuple(node.id for node, fit in zip(on.nodes, over.tolist(), strict=True) if fit),
        told=False,
        remote_bytes=away,
        remote_share=away / every,
        saving_ns_per_s=(now - then) * 1e9 * prices.MEMORY_SHARE,
        cost_ns=away * moving_ns_per_byte(process.regions, rows),
        confidence=1 - process.placement_error_share,
    )


def wait_ratio(cores: Floats, held: Ints, over: Bools, on: Topology) -> Floats:
    """Say, by row, how many times as long these cores would wait for what is held if it were spread evenly over nodes."""
    every = np.maximum(held.sum(axis=1, keepdims=True), 1)
    even = over * (held.sum(axis=1, keepdims=True) / every) / np.maximum(over.sum(axis=1, keepdims=True), 1)
    now, then = _waited(cores, held / every, on), _waited(cores, even, on)
    ratio: Floats = np.where(now > 0, then / np.maximum(now, 1e-9), 1.0)
    return ratio


def _waited(cores: Floats, share: Floats, on: Topology) -> Floats:
    """Give, by row, how many times as long as for near memory at rest these cores wait together."""
    asking = _asking(cores, on)[:, None]
    longer = np.maximum(asking * share / prices.streams(on), 1.0)
    waited: Floats = np.einsum("pi,ij,pj->p", cores, prices.ratios(on), share * longer)
    return waited


def _asking(cores: Floats, on: Topology) -> Floats:
    """Give, by row, how many cores ask for memory: two threads of one ask for no more than one."""
    asking: Floats = np.minimum(cores, on.cores_by_node).sum(axis=1)
    return asking


def _rows(process: Process, backing: int) -> Bools:
    rows: Bools = process.regions.shared & (process.regions.backing == backing)
    return rows


def computing(jobs: Iterable[Job], before: Collection[int]) -> set[int]:
    """Give the jobs of which counters that calibration verified said last that memory does not hold them back.

    Not every look counts: ``before`` are those of the look before.
    """
    return {
        job.cgroup_id
        for job in jobs
        if (job.counters.memory_bound is False if job.counters else job.cgroup_id in before)
    }


def _figures(wish: Wish) -> dict[str, float]:
    return {
        "remote_share": wish.remote_share,
        "remote_mb": wish.remote_bytes / MB,
        "saving_ns_per_s": wish.saving_ns_per_s,
        "payback_s": wish.payback_s,
    }
