# SPDX-License-Identifier: Apache-2.0

"""Find out where the pages of one process are, without keeping it from its memory for long.

Problem: numa_maps counts every page, but walks each VMA's page tables under the mmap lock,
some 55 ns a page of 4 KiB, in which the process can neither map nor unmap.
Primitive: an upper bound of that walk, from the sizes of the VMAs and what is resident.
Application: numa_maps where no VMA's walk can take longer than allowed, else a sample of pages.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed, maps, numa_maps, placement, proc_status
from numad_py.model import Mempolicy, PlacementSource, ProcessKey, RegionKind, Regions
from numad_py.sense import page_sample
from numad_py.topology import Topology

PTE_WALK_S: Final = 55e-9  # measured, 51 to 61 ns; a huge page costs as much as one small one
UNFOUND_SHARE: Final = 1 / 8  # of what is resident: then VMAs came or went; a draw alone errs by 2 to 4 %
SHARED_BY: Final = 2  # processes, at least, as far as a sample of pages can tell of a file's


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the pages of a process are, where it may allocate, and what finding out took of CPU time.

    ``locked_s`` is the part of it for which, at most, the process could neither map nor unmap.
    ``vmas`` need not be read again while none has come or gone.
    """

    regions: Regions
    status: proc_status.Status
    source: PlacementSource
    error_share: float
    cost_s: float
    locked_s: float
    vmas: maps.Maps


@dataclass(frozen=True)
class Reader:
    """How placements are read here. ``longest_walk_s`` is for one VMA; see ``Costs``."""

    topology: Topology
    longest_walk_s: float
    sampled_mempolicy: Mempolicy
    root: Path
    random: np.random.Generator = field(default_factory=np.random.default_rng)

    def read(
        self,
        key: ProcessKey,
        resident_pages: int,
        small_pages: Callable[[], int | None],
        vmas: maps.Maps | None,
    ) -> Placement | Malformed:
        """Read one process.

        ``small_pages`` gives an upper bound of what is not in huge pages, if one is known; it is asked only
        for a process that is large. ``vmas`` are those of an earlier reading, if nothing says that they changed.
        """
        began_s = time.thread_time()
        try:
            status = proc_status.read(key.pid, self.root)
            if resident_pages * PTE_WALK_S > self.longest_walk_s:
                bound = small_pages()
                walked_pages = resident_pages if bound is None else min(bound, resident_pages)
                vmas, found = self._sampled(key, resident_pages, walked_pages, vmas)
                if found:
                    regions, took_s = self._regions_of(vmas, found), time.thread_time() - began_s
                    source = PlacementSource.PAGE_SAMPLE
                    return Placement(regions, status, source, found.error_share, took_s, took_s, vmas)
            regions, vmas, locked_s = self._counted(key, vmas)
            took_s = time.thread_time() - began_s
            return Placement(regions, status, PlacementSource.NUMA_MAPS, 0.0, took_s, locked_s, vmas)
        except Malformed as error:
            return error

    def _vmas(self, key: ProcessKey) -> maps.Maps:
        return maps.parse(maps.read(key.pid, self.root))

    def _counted(self, key: ProcessKey, vmas: maps.Maps | None) -> tuple[Regions, maps.Maps, float]:
        began_s = time.thread_time()
        text = numa_maps.read(key.pid, self.root)
        locked_s = time.thread_time() - began_s
        placed = numa_maps.parse(text, self.topology.node_ids, self.topology.page_bytes)
        if vmas is None or not np.isin(placed.start, vmas.start).all():
            vmas = self._vmas(key)
        return numa_maps.regions(placed, vmas.start, vmas.end), vmas, locked_s

    def _sampled(
        self, key: ProcessKey, resident_pages: int, walked_pages: int, vmas: maps.Maps | None
    ) -> tuple[maps.Maps, page_sample.Estimate | None]:
        """Take a sample if a walk could take too long, among the VMAs of old if nearly all is found there."""
        found = self._estimate(key, vmas, resident_pages, walked_pages) if vmas else None
        if vmas and found and abs(found.found_pages - resident_pages) <= UNFOUND_SHARE * resident_pages:
            return vmas, found
        vmas = self._vmas(key)
        return vmas, self._estimate(key, vmas, resident_pages, walked_pages)

    def _estimate(
        self, key: ProcessKey, vmas: maps.Maps, resident_pages: int, walked_pages: int
    ) -> page_sample.Estimate | None:
        """Take a sample; None where no walk can take too long."""
        start, page_bytes = vmas.start[vmas.readable], self.topology.page_bytes
        pages = ((vmas.end[vmas.readable] - start) // np.uint64(page_bytes)).astype(np.int64)
        if min(int(pages.max(initial=0)), walked_pages) * PTE_WALK_S <= self.longest_walk_s:
            return None
        return page_sample.estimate(
            start,
            pages,
            page_bytes=page_bytes,
            resident_pages=resident_pages,
            node_ids=self.topology.node_ids,
            ask=partial(placement.nodes_of, key.pid),
            random=self.random,
        )

    def _regions_of(self, vmas: maps.Maps, found: page_sample.Estimate) -> Regions:
        count = found.pages.sum(axis=1)
        some = np.flatnonzero(count)
        rows, pages = np.flatnonzero(vmas.readable)[some], found.pages[some]
        file = vmas.file[rows]
        return Regions(
            start=vmas.start[rows],
            end=vmas.end[rows],
            page_bytes=np.full(len(rows), self.topology.page_bytes),
            kind=np.where(file, RegionKind.FILE, RegionKind.ANON),
            mempolicy=np.full(len(rows), self.sampled_mempolicy, np.int64),
            mapmax=np.where(file, SHARED_BY, 1),
            anon_pages=count[some] * ~file,
            pages=pages,
        )
