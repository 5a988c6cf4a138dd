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
from numad_py.model import Addresses, Mempolicy, PlacementSource, ProcessKey, RegionKind, Regions, Topology
from numad_py.sense import page_sample

PTE_WALK_S: Final = 55e-9  # measured, 51 to 61 ns; a huge page costs as much as one small one
SHARED_BY: Final = 2  # processes, at least, as far as a sample of pages can tell of a file's


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the pages of a process are, where it may allocate, and what finding out took of CPU time.

    ``ends`` are start and end of every VMA, which need not be read again while no VMA has come or gone.
    """

    regions: Regions
    status: proc_status.Status
    source: PlacementSource
    error_share: float
    cost_s: float
    ends: tuple[Addresses, Addresses]


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
        ends: tuple[Addresses, Addresses] | None,
    ) -> Placement | Malformed:
        """Read one process.

        ``small_pages`` gives an upper bound of what is not in huge pages, if one is known; it is asked only
        for a process that is large. ``ends`` are those of an earlier reading that are surely still so.
        """
        began_s = time.thread_time()
        try:
            status = proc_status.read(key.pid, self.root)
            mapped = None
            if resident_pages * PTE_WALK_S > self.longest_walk_s:
                mapped = maps.parse(maps.read(key.pid, self.root))
                bound = small_pages()
                small = resident_pages if bound is None else min(bound, resident_pages)
                if self._longest_walk_s(mapped, small) > self.longest_walk_s:
                    return self._sampled(key, mapped, resident_pages, status, began_s)
            return self._counted(key, mapped, ends, status, began_s)
        except Malformed as error:
            return error

    def _longest_walk_s(self, mapped: maps.Maps, small_pages: int) -> float:
        size = (mapped.end - mapped.start)[mapped.readable].max(initial=np.uint64(0))
        return min(int(size) // self.topology.page_bytes, small_pages) * PTE_WALK_S

    def _counted(
        self,
        key: ProcessKey,
        mapped: maps.Maps | None,
        ends: tuple[Addresses, Addresses] | None,
        status: proc_status.Status,
        began_s: float,
    ) -> Placement:
        text = numa_maps.read(key.pid, self.root)
        placed = numa_maps.parse(text, self.topology.node_ids, self.topology.page_bytes)
        if ends is None or not np.isin(placed.start, ends[0]).all():
            mapped = mapped or maps.parse(maps.read(key.pid, self.root))
            ends = mapped.start, mapped.end
        regions = numa_maps.regions(placed, *ends)
        took_s = time.thread_time() - began_s
        return Placement(regions, status, PlacementSource.NUMA_MAPS, 0.0, took_s, ends)

    def _sampled(
        self,
        key: ProcessKey,
        mapped: maps.Maps,
        resident_pages: int,
        status: proc_status.Status,
        began_s: float,
    ) -> Placement:
        start, end = mapped.start[mapped.readable], mapped.end[mapped.readable]
        page_bytes = self.topology.page_bytes
        found = page_sample.estimate(
            start,
            ((end - start) // np.uint64(page_bytes)).astype(np.int64),
            page_bytes=page_bytes,
            resident_pages=resident_pages,
            node_ids=self.topology.node_ids,
            ask=partial(placement.nodes_of, key.pid),
            random=self.random,
        )
        rows = np.flatnonzero(found.pages.any(axis=1))
        pages, file = found.pages[rows], mapped.file[mapped.readable][rows]
        regions = Regions(
            start=start[rows],
            end=end[rows],
            page_bytes=np.full(len(rows), page_bytes),
            kind=np.where(file, RegionKind.FILE, RegionKind.ANON),
            mempolicy=np.full(len(rows), self.sampled_mempolicy, np.int64),
            mapmax=np.where(file, SHARED_BY, 1),
            anon_pages=pages.sum(axis=1) * ~file,
            pages=pages,
        )
        took_s = time.thread_time() - began_s
        ends = mapped.start, mapped.end
        return Placement(regions, status, PlacementSource.PAGE_SAMPLE, found.error_share, took_s, ends)
