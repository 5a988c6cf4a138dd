# SPDX-License-Identifier: Apache-2.0

"""Whole pages, split and carried from one look to the next.

Problem: a trace says how large each region is at each look; a replay has to say where its
pages are without asking the trace.

Primitive: rows of page counts by node are split in whole pages whose sum is exact, and rows of
two looks belong together where their addresses overlap.

Application: `ReplayedMachine` carries every process's placement with these from tick to tick.

Units: pages of a row's own size; arrays have the shape (regions, nodes).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numad_py.model import Mempolicy, Regions
from numad_py.ranges import overlaps
from numad_py.topology import Ints

# Plain numbers: comparing an array with an enum's member takes several times as long.
_DEFAULT, _LOCAL, _INTERLEAVE = int(Mempolicy.DEFAULT), int(Mempolicy.LOCAL), int(Mempolicy.INTERLEAVE)

PARTS = 1_000_000  # the sum of weights that stand for shares, so that splitting stays in integers


def apportion(weights: Ints, totals: Ints) -> Ints:
    """Split each row's total in proportion to its weights; parts are whole and sum exactly.

    A row without weights gets nothing. No part exceeds its weight where the total does not
    exceed their sum.
    """
    up_to = weights.cumsum(axis=1)
    whole = up_to[:, -1:]
    bounds = (up_to * totals[:, None] + whole // 2) // np.maximum(whole, 1)
    parts: Ints = bounds.copy()  # np.diff with prepend takes ten times as long on small arrays
    parts[:, 1:] -= bounds[:, :-1]
    return parts


@dataclass(frozen=True, eq=False)
class Kinship:
    """Which old rows live on in which new rows, as columns, one entry per pair.

    A VMA that was split leaves its pages to its parts in proportion to what the new rows
    hold: ``low`` and ``high`` bound each part's share of ``whole``. ``rows`` counts the new rows.
    """

    old: Ints
    new: Ints
    low: Ints
    high: Ints
    whole: Ints
    rows: int


def kinship(old: Regions, new: Regions) -> Kinship:
    """Match the rows of two looks by address; a row whose page size changed is a stranger."""
    old_rows, new_rows, shared = overlaps(old.start, old.end, new.start, new.end)
    same = old.page_bytes[old_rows] == new.page_bytes[new_rows]
    old_rows, new_rows, shared = old_rows[same], new_rows[same], shared[same]
    length = (new.end - new.start).astype(np.int64)[new_rows]
    weight = np.ceil(new.pages.sum(axis=1)[new_rows] * (shared / length)).astype(np.int64)
    up_to = weight.cumsum()
    whole = np.bincount(old_rows, weight, minlength=len(old)).astype(np.int64)
    before = (whole.cumsum() - whole)[old_rows]
    return Kinship(old_rows, new_rows, up_to - weight - before, up_to - before, whole[old_rows], len(new))


def inherit(pages: Ints, kin: Kinship) -> Ints:
    """Give the pages that the new rows have from the old ones."""
    old, whole = pages[kin.old], np.maximum(kin.whole, 1)[:, None]
    parts = _share(old, kin.high, whole) - _share(old, kin.low, whole)
    inherited = np.zeros((kin.rows, pages.shape[1]), np.int64)
    np.add.at(inherited, kin.new, parts)
    return inherited


def _share(pages: Ints, part: Ints, whole: Ints) -> Ints:
    return (pages * part[:, None] + whole // 2) // whole


def growth_weights(pages: Ints, mempolicy: Ints, cpu_parts: Ints, allowed: NDArray[np.bool_]) -> Ints:
    """Say by row where new pages would go: where the process runs, or as the mempolicy has placed the row.

    A bound row grows as its present pages lie; an interleaved row without pages, evenly.
    """
    weights = np.repeat(cpu_parts[None, :], len(pages), axis=0)
    chosen = (mempolicy != _DEFAULT) & (mempolicy != _LOCAL)
    if chosen.any():
        weights[mempolicy == _INTERLEAVE] = allowed
        patterned = chosen & (pages.sum(axis=1) > 0)
        weights[patterned] = pages[patterned]
    return weights


def spill(growth: Ints, page_bytes: Ints, room_bytes: Ints, distances: Sequence[Sequence[int]]) -> Ints:
    """Give what does not fit on its node to the nearest one with room.

    What fits nowhere stays: the recorded machine did hold it.
    """
    if bool((page_bytes @ growth <= room_bytes).all()):
        return growth
    nearest = np.argsort(np.array(distances), axis=1, kind="stable")
    left, placed, room = growth.copy(), np.zeros_like(growth), room_bytes.copy()
    for rank in range(len(nearest)):
        for node in np.flatnonzero(left.any(axis=0)):
            target = nearest[node, rank]
            fits = _prefix(left[:, node], page_bytes, int(room[target]))
            left[:, node] -= fits
            placed[:, target] += fits
            room[target] -= fits @ page_bytes
    return placed + left


def _prefix(pages: Ints, price: Ints, cap: int) -> Ints:
    """Take pages row after row while their summed price stays within the cap."""
    spent = np.minimum((pages * price).cumsum(), max(cap, 0))
    taken: Ints = np.diff(spent, prepend=0) // price
    return taken
