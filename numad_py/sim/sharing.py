# SPDX-License-Identifier: Apache-2.0

"""What several processes share is moved once, and then lies elsewhere for all of them.

Problem: each process has counts of its own, of rows that need not begin or end where another's do.
Primitive: rows of the same backing belong together where they cover the same bytes of it.
Application: of what a move takes from a row, another process's rows lose the same part, and it arrives on
the same nodes. `ReplayedMachine` lets all follow that the move is for.

Units: pages of a row's own size.
"""

import numpy as np

from numad_py.model import Regions
from numad_py.ranges import overlaps
from numad_py.sim.moving import Flow
from numad_py.sim.placement import apportion
from numad_py.topology import Addresses, Bools, Ints


def followed(its: Regions, mover: Regions, flow: Flow) -> Ints:
    """Give the pages of a process after what it shares was moved by another, of whose rows this is the flow."""
    moved = np.flatnonzero((mover.backing > 0) & (flow.pages > 0))
    pages = its.pages.copy()
    for backing in np.unique(mover.backing[moved]).tolist():
        mine, theirs = _by_offset(its, its.backing == backing), _by_offset(mover, mover.backing == backing)
        start, end = _spans(its, mine)
        row, other, shared = overlaps(start, end, *_spans(mover, theirs))
        cover = np.zeros((len(mine), len(theirs)))
        cover[row, other] = shared / (end - start)[row].astype(np.float64)
        left = cover @ (flow.leaving / np.maximum(mover.pages, 1))[theirs]
        leaving = np.minimum(np.rint(pages[mine] * left).astype(np.int64), pages[mine])
        arrives = np.rint(cover @ flow.arriving[theirs]).astype(np.int64)
        leaving[arrives.sum(axis=1) == 0] = 0
        pages[mine] += apportion(arrives, leaving.sum(axis=1)) - leaving
    return pages


def _by_offset(regions: Regions, chosen: Bools) -> Ints:
    rows = np.flatnonzero(chosen)
    ordered: Ints = rows[np.argsort(regions.offset[rows], kind="stable")]
    return ordered


def _spans(regions: Regions, rows: Ints) -> tuple[Addresses, Addresses]:
    """Give where in their backing these rows begin and end."""
    offset = regions.offset[rows].astype(np.uint64)
    return offset, offset + (regions.end - regions.start)[rows]
