# SPDX-License-Identifier: Apache-2.0

"""Remember what a full walk said of a process's VMAs, and find it again for the VMAs of later.

Problem: only numa_maps tells mempolicies, and of a process that is too large for it at every
reading nothing may be moved while they are not known.
Primitive: the kernel merges VMAs only where mempolicies are equal (mpol_equal() in vma_merge() of mm/mmap.c,
since v6.12 in is_mergeable_vma() of mm/vma.c), so that one that grew or was split keeps its own.
Application: a VMA is told of if it lies within one that was walked, or if it begins or ends where
one did and those below it agree. Of any other nothing is known.
"""

from dataclasses import dataclass, replace

import numpy as np

from numad_py.kernel.maps import Maps
from numad_py.kernel.numa_maps import NumaMaps
from numad_py.model import Mempolicy, RegionKind, Regions
from numad_py.topology import Addresses, Bools, Ints

_UNTOLD = -1


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was said of VMAs, ascending by ``start``.

    The mempolicy of what is not in base pages is unknown: a sample tells nothing of its size.
    """

    start: Addresses
    end: Addresses
    file: Bools
    kind: Ints
    mempolicy: Ints
    mapmax: Ints

    def among(self, vmas: Maps) -> "Learnt":
        """Give what is known of the VMAs that there are now; the rest is forgotten."""
        rows = self._rows(vmas.start, vmas.end, vmas.file)
        told = rows != _UNTOLD
        kind, mempolicy, mapmax = (column[rows[told]] for column in (self.kind, self.mempolicy, self.mapmax))
        return Learnt(vmas.start[told], vmas.end[told], vmas.file[told], kind, mempolicy, mapmax)

    def tell(self, regions: Regions) -> tuple[Regions, float]:
        """Give regions with what is known of them, and the share of their pages of which nothing is."""
        rows = self._rows(regions.start, regions.end, regions.kind == RegionKind.FILE)
        told = np.flatnonzero(rows != _UNTOLD)
        rows = rows[told]
        mapmax = self.mapmax[rows]  # 0 where nothing was resident: then nothing was said
        said = replace(
            regions,
            kind=_overlaid(regions.kind, told, self.kind[rows]),
            mempolicy=_overlaid(regions.mempolicy, told, self.mempolicy[rows]),
            mapmax=_overlaid(regions.mapmax, told[mapmax > 0], mapmax[mapmax > 0]),
        )
        all_pages = regions.pages.sum()
        return said, float(1 - regions.pages[told].sum() / max(all_pages, 1))

    def _rows(self, start: Addresses, end: Addresses, file: Bools) -> Ints:
        """Give the row that tells of each VMA, or ``_UNTOLD``."""
        if not len(self.start):
            return np.full(len(start), _UNTOLD)
        first = self.end.searchsorted(start, side="right")
        last = self.start.searchsorted(end) - 1
        overlap = first <= last
        first, last = np.minimum(first, len(self.start) - 1), np.maximum(last, 0)
        within = (self.start[first] <= start) & (end <= self.end[first])
        grown = (self.start[first] == start) | (self.end[last] == end)
        changes = np.append(0, np.diff(self.mempolicy) != 0).cumsum()
        alike = (changes[first] == changes[last]) & (self.file[first] == file)
        return np.where(overlap & (within | grown) & alike, first, _UNTOLD)


def _overlaid(column: Ints, rows: Ints, values: Ints) -> Ints:
    column = column.copy()
    column[rows] = values
    return column


def learn(placed: NumaMaps, vmas: Maps, page_bytes: int) -> Learnt:
    """Join what numa_maps says with the ends of the VMAs, which maps has."""
    _, ours, theirs = np.intersect1d(placed.start, vmas.start, return_indices=True)
    base = placed.page_bytes[ours] == page_bytes
    return Learnt(
        vmas.start[theirs],
        vmas.end[theirs],
        vmas.file[theirs],
        placed.kind[ours],
        np.where(base, placed.mempolicy[ours], Mempolicy.UNKNOWN),
        placed.mapmax[ours],
    )
