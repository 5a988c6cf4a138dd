# SPDX-License-Identifier: Apache-2.0

"""Estimate where a process's pages are from a few of them, and say how far off that may be.

Problem: counting the pages of a giant holds its mmap lock for seconds.
Primitive: move_pages(2) tells the node of any page for 250 ns, in short holds of the lock.
Application: pages are drawn over all regions, more of them where there is more to find, so
that a first draw finds out how densely each region is filled and a second one measures.
The share of a node is a ratio of weighted sums, and its error follows from their spread
(Särndal, Swensson, Wretman: Model Assisted Survey Sampling, 1992, 5.6 and 5.7).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numad_py.model import Addresses, Floats, Ints

PILOT_PAGES = 1024
PAGES = 4096
NORMAL_95 = 1.96

Ask = Callable[[Addresses], NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class Estimate:
    """Pages by region and node.

    ``error_share`` is the half width of the 95 % interval of any node's share of the resident pages.
    """

    pages: Ints
    error_share: float


def estimate(
    start: Addresses,
    pages: Ints,
    *,
    page_bytes: int,
    resident_pages: int,
    node_ids: tuple[int, ...],
    ask: Ask,
    random: np.random.Generator,
) -> Estimate:
    """Draw pages of regions that begin at ``start`` and hold ``pages`` each, and ask where they are.

    ``resident_pages`` is how many the process has in all, which the kernel counts anyway;
    ``ask`` gives nodes, or negative for a page that is absent.
    """

    def draw(weight: Floats, count: int) -> tuple[Ints, Ints]:
        row = _systematic(weight, count, random)
        page = (random.random(count) * pages[row]).astype(np.uint64)
        return row, ask(start[row] + page * np.uint64(page_bytes)).astype(np.int64)

    likely = np.minimum(pages, resident_pages).astype(np.float64)
    row, node = draw(likely, PILOT_PAGES)
    asked = np.bincount(row, minlength=len(pages))
    found = np.bincount(row[node >= 0], minlength=len(pages))
    weight = pages * (found + 1) / (asked + 2)
    row, node = draw(weight, PAGES)
    stands_for = pages[row] / weight[row]  # up to one factor for all
    return _estimate(row, node, stands_for, len(pages), node_ids, resident_pages)


def _systematic(weight: Floats, count: int, random: np.random.Generator) -> Ints:
    """Choose rows in proportion to their weight, at even steps from a random start."""
    edges = np.cumsum(weight)
    at = (np.arange(count) + random.random()) * (edges[-1] / count)
    row: Ints = np.minimum(np.searchsorted(edges, at, side="right"), len(weight) - 1)
    return row


def _estimate(
    row: Ints, node: Ints, stands_for: Floats, regions: int, node_ids: tuple[int, ...], resident_pages: int
) -> Estimate:
    here = np.array(node_ids)[:, None] == node  # (nodes, draws)
    resident = stands_for * here.any(axis=0)
    total = resident.sum()
    if not total:
        return Estimate(np.zeros((regions, len(node_ids)), np.int64), 1.0)
    share = (stands_for * here).sum(axis=1) / total
    away = stands_for * here - share[:, None] * resident
    error = NORMAL_95 * np.sqrt(len(row) * away.var(axis=1)) / total
    # Where every page drawn is on one node the spread is 0: as with k successes of k, up to 3/k may be elsewhere.
    at_least = 3 * (resident**2).sum() / total**2
    cells = np.zeros((regions, len(node_ids)))
    for index, mine in enumerate(here):
        cells[:, index] = np.bincount(row, stands_for * mine, regions)
    pages = np.rint(cells * (resident_pages / total)).astype(np.int64)
    return Estimate(pages, float(min(max(error.max(), at_least), 1.0)))
