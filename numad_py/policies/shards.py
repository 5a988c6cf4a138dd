# SPDX-License-Identifier: Apache-2.0

"""Which parts of a process's memory the threads of one node use, where an investigation saw it.

Problem: threads on several nodes each use a part of what their process holds, so that none of them is its home.
Primitive: of each range the accesses of thread groups are added up by the node that these run on now.
Application: a range belongs to the node that most of its accesses come from, if the samples make that sure. Where
pages of a part of a VMA lie is not known: they are taken to lie as the whole does.
"""

from dataclasses import dataclass, replace

import numpy as np

from numad_py import prices
from numad_py.model import Accesses, Process, Regions, ThreadGroup
from numad_py.policies.candidates import Candidates
from numad_py.ranges import overlaps
from numad_py.topology import Addresses, Floats, Ints, Topology


@dataclass(frozen=True, eq=False)
class Shards:
    """Parts of VMAs as columns, ascending: ``row`` is the VMA, ``home`` the node they belong to, -1 for none.

    ``bytes_`` has the shape (parts, nodes); ``share`` is of all accesses of the process, ``confidence`` the least
    share of the part's accesses that comes from its home.
    """

    row: Ints
    start: Addresses
    end: Addresses
    page_bytes: Ints
    home: Ints
    bytes_: Ints
    share: Floats
    confidence: Floats


def parts(process: Process, accesses: Accesses, on: Topology, *, home_share_above: float) -> Shards | None:
    """Cut a process's movable memory where its accesses change; None where threads were not told apart, or have left."""
    where = _where(accesses.groups, process, on)
    if where is None:
        return None
    by_node = accesses.counts @ where
    lower, _ = replace(accesses, counts=by_node).share_bounds()
    home = by_node.argmax(axis=1)
    agreeing = by_node.max(axis=1) / np.maximum(by_node.sum(axis=1), 1)
    sure = np.take_along_axis(lower, home[:, None], axis=1)[:, 0]
    evident = (agreeing >= home_share_above) & (sure > 0.5)  # noqa: PLR2004 - more than half
    home = np.where(evident, on.memory_of[home], -1)
    row, its, start, end = _overlaps(process.regions, accesses)
    regions, length = process.regions.take(row), accesses.end - accesses.start
    of_row, of_range = (end - start) / (regions.end - regions.start), (end - start) / length[its]
    share = by_node.sum(axis=1)[its] * of_range / max(by_node.sum(), 1)
    pages = np.rint(regions.pages * of_row[:, None]).astype(np.int64)
    bytes_ = pages * regions.page_bytes[:, None] * regions.movable[:, None]
    return Shards(row, start, end, regions.page_bytes, home[its], bytes_, share, sure[its])


def offer(row: int, shards: Shards, cores: Floats, on: Topology) -> Candidates:
    """Give a candidate for each node that parts belong to; ``row`` and ``cores`` are of their process."""
    held = shards.bytes_.sum(axis=1)
    homes = sorted({*shards.home[(shards.home >= 0) & (held > 0)].tolist()})
    mine = (shards.home == np.array(homes, np.int64)[:, None]) & (held > 0)
    every = np.eye(len(on.nodes))[homes]
    away = shards.bytes_ * (on.may_leave & (np.arange(len(on.nodes)) != shards.home[:, None]))
    return Candidates(
        np.full(len(homes), row),
        np.array(homes, np.int64),
        mine @ away,
        every * (mine @ shards.share * cores.sum())[:, None],
        mine @ held,
        mine @ (shards.share * away.sum(axis=1) / np.maximum(held, 1)),
        mine @ (shards.share * shards.confidence) / np.maximum(mine @ shards.share, 1e-9),
        mine @ (held * prices.move_ns_per_byte(shards.page_bytes)) / np.maximum(mine @ held, 1),
        np.full(len(homes), np.nan),
    )


def has_left(group: ThreadGroup, process: Process, on: Topology) -> bool:
    """Say whether the threads of a group ran, and mostly on another node than they were seen on."""
    threads = process.threads
    mine = np.isin(threads.tid, group.tid)
    ran_s = on.cpu_s_by_node(threads.cpu[mine], threads.cpu_s[mine])
    return bool(ran_s.any()) and on.nodes[ran_s.argmax()].id != group.node


def _where(groups: tuple[ThreadGroup, ...], process: Process, on: Topology) -> Ints | None:
    """Give by group and node whether its threads run there, if they still do."""
    index = [-1 if group.node is None else on.index_of.get(group.node, -1) for group in groups]
    if -1 in index or any(has_left(group, process, on) for group in groups):
        return None
    where: Ints = np.eye(len(on.nodes), dtype=np.int64)[index]
    return where


def _overlaps(regions: Regions, accesses: Accesses) -> tuple[Ints, Ints, Addresses, Addresses]:
    """Give the rows of regions and of ranges that share addresses, and where each part begins and ends, in whole pages."""
    row, its, _ = overlaps(regions.start, regions.end, accesses.start, accesses.end)
    page = regions.page_bytes[row].astype(np.uint64)
    start = np.maximum(regions.start[row], accesses.start[its] // page * page)
    end = np.minimum(regions.end[row], accesses.end[its] // page * page)
    whole = start < end
    return row[whole], its[whole], start[whole], end[whole]
