# SPDX-License-Identifier: Apache-2.0

"""Find out where the pages of one process are, without keeping it from its memory for long.

Problem: numa_maps counts every page, but walks each VMA's page tables under the mmap lock,
some 55 ns a page of 4 KiB, in which the process can neither map nor unmap.
Primitive: an upper bound of that walk, from the sizes of the VMAs and what is resident.
Application: numa_maps where no VMA's walk can take longer than allowed, else a sample of pages;
what a sample cannot tell it has from a walk, which may take longer since it is made once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from numad_py import workers
from numad_py.kernel import Malformed, maps, numa_maps, placement, proc_status
from numad_py.model import Mempolicy, PlacementSource, ProcessKey, RegionKind, Regions
from numad_py.sense import page_sample
from numad_py.sense.learnt import Learnt, learn
from numad_py.sense.mapped import Mapped, mapped
from numad_py.topology import Ints, Topology

PTE_WALK_S: Final = 55e-9  # measured, 51 to 61 ns; a huge page costs as much as one small one
UNFOUND_SHARE: Final = 1 / 8  # of what is resident: then VMAs came or went; a draw alone errs by 2 to 4 %
SHARED_BY: Final = 2  # processes, at least, as far as a sample of pages can tell of a file's
WHOLE_WALK_S: Final = (
    0.5  # at most, of all VMAs: half of the time after which the workers take a call for stuck
)
QUIET_WALK_S: Final = (
    2.0  # at most, of a process that keeps its address space as it is: 145 GB of small pages
)


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the pages of a process are, where it may allocate, and what finding out took of CPU time.

    ``locked_s`` is the part of it for which, at most, the process could neither map nor unmap.
    ``vmas`` need not be read again while none has come or gone; ``mapped`` are the regions that others map too.
    Of a sample, ``learnt`` tells the mempolicies, but for ``untold_share`` of the pages; a walk for them takes
    some ``walk_s``, or ``quiet_walk_s`` while the process is quiet, or is not allowed and this is 0. Where that
    walk was made, ``learnt`` is what it said.
    """

    regions: Regions
    status: proc_status.Status
    source: PlacementSource
    error_share: float
    cost_s: float
    locked_s: float
    vmas: maps.Maps
    mapped: Mapped
    learnt: Learnt | None = None
    untold_share: float = 0.0
    walk_s: float = 0.0
    quiet_walk_s: float = 0.0

    @property
    def rows(self) -> int:
        """How many regions and VMAs it holds."""
        return len(self.regions) + len(self.vmas.start)


@dataclass(frozen=True)
class Reader:
    """How placements are read here. ``longest_walk_s`` and ``first_walk_s`` are for one VMA; see ``Costs``."""

    topology: Topology
    longest_walk_s: float
    first_walk_s: float
    sampled_mempolicy: Mempolicy
    root: Path
    random: np.random.Generator = field(default_factory=np.random.default_rng)

    def read(
        self,
        key: ProcessKey,
        resident_pages: int,
        small_pages: Callable[[], int | None],
        vmas: maps.Maps | None,
        *,
        learnt: Learnt | None = None,
        walk: bool = False,
        quiet: bool = False,
    ) -> Placement | Malformed:
        """Read one process.

        ``small_pages`` gives an upper bound of what is not in huge pages, if one is known; it is asked only
        for a process that is large. ``vmas`` are those of an earlier reading, if nothing says that they changed.
        ``learnt`` is what is known from an earlier walk; with ``walk`` another is made, if it is still allowed,
        which may take longer while the process is ``quiet``.
        """
        try:
            if resident_pages * PTE_WALK_S <= self.longest_walk_s:
                return self._counted(key, vmas, numa_maps.read)
            bound = small_pages()
            walked_pages = resident_pages if bound is None else min(bound, resident_pages)
            if walk and (walk_s := self._walk_s(self._vmas(key), walked_pages, quiet=quiet)):
                workers.expect(walk_s)
                return self._counted(key, None, numa_maps.read_by_vma, walk_s)
            return self._sampled(key, resident_pages, walked_pages, vmas, learnt)
        except Malformed as error:
            return error

    def _vmas(self, key: ProcessKey) -> maps.Maps:
        return maps.parse(maps.read(key.pid, self.root))

    def _counted(
        self,
        key: ProcessKey,
        vmas: maps.Maps | None,
        read: Callable[[int, Path], bytes],
        walk_s: float = 0.0,
    ) -> Placement:
        began_s = time.thread_time()
        status = proc_status.read(key.pid, self.root)
        reading_s = time.thread_time()
        text = read(key.pid, self.root)
        locked_s = time.thread_time() - reading_s
        placed = numa_maps.parse(text, self.topology.node_ids, self.topology.page_bytes)
        if vmas is None or not np.isin(placed.start, vmas.start).all():
            vmas = self._vmas(key)
        regions = numa_maps.regions(placed, vmas.start, vmas.end)
        learnt = learn(placed, vmas, self.topology.page_bytes) if walk_s else None
        took_s = time.thread_time() - began_s
        source = PlacementSource.NUMA_MAPS
        others = mapped(regions, vmas)
        return Placement(
            regions,
            status,
            source,
            0.0,
            took_s,
            locked_s,
            vmas,
            others,
            learnt,
            walk_s=walk_s,
            quiet_walk_s=walk_s,
        )

    def _sampled(
        self,
        key: ProcessKey,
        resident_pages: int,
        walked_pages: int,
        vmas: maps.Maps | None,
        learnt: Learnt | None,
    ) -> Placement:
        """Take a sample, but count where no walk can take too long."""
        began_s = time.thread_time()
        vmas, found = self._found(key, resident_pages, walked_pages, vmas)
        if found is None:
            return self._counted(key, vmas, numa_maps.read_by_vma)
        status = proc_status.read(key.pid, self.root)
        regions, untold_share = self._regions_of(vmas, found), 1.0
        if learnt:
            learnt = learnt.among(vmas)
            regions, untold_share = learnt.tell(regions)
        took_s = time.thread_time() - began_s
        return Placement(
            regions,
            status,
            PlacementSource.PAGE_SAMPLE,
            found.error_share,
            cost_s=took_s,
            locked_s=took_s,
            vmas=vmas,
            mapped=mapped(regions, vmas),
            learnt=learnt,
            untold_share=untold_share,
            walk_s=self._walk_s(vmas, walked_pages, quiet=False),
            quiet_walk_s=self._walk_s(vmas, walked_pages, quiet=True),
        )

    def _found(
        self, key: ProcessKey, resident_pages: int, walked_pages: int, vmas: maps.Maps | None
    ) -> tuple[maps.Maps, page_sample.Estimate | None]:
        """Take a sample if a walk could take too long, among the VMAs of old if nearly all is found there."""
        found = self._estimate(key, vmas, resident_pages, walked_pages) if vmas else None
        if vmas and found and abs(found.found_pages - resident_pages) <= UNFOUND_SHARE * resident_pages:
            return vmas, found
        vmas = self._vmas(key)
        return vmas, self._estimate(key, vmas, resident_pages, walked_pages)

    def _walk_s(self, vmas: maps.Maps, walked_pages: int, *, quiet: bool) -> float:
        """Estimate how long a walk for the mempolicies takes; 0 where it is not allowed."""
        longest_s = min(int(self._pages(vmas).max(initial=0)), walked_pages) * PTE_WALK_S
        whole_s = walked_pages * PTE_WALK_S
        if quiet and self.first_walk_s > self.longest_walk_s:  # else the operator forbids it
            return whole_s if whole_s <= QUIET_WALK_S else 0.0
        return whole_s if longest_s <= self.first_walk_s and whole_s <= WHOLE_WALK_S else 0.0

    def _pages(self, vmas: maps.Maps) -> Ints:
        """Give how many pages each VMA has room for that can be read."""
        room_bytes = vmas.end[vmas.readable] - vmas.start[vmas.readable]
        return (room_bytes // np.uint64(self.topology.page_bytes)).astype(np.int64)

    def _estimate(
        self, key: ProcessKey, vmas: maps.Maps, resident_pages: int, walked_pages: int
    ) -> page_sample.Estimate | None:
        """Take a sample; None where no walk can take too long."""
        pages = self._pages(vmas)
        if min(int(pages.max(initial=0)), walked_pages) * PTE_WALK_S <= self.longest_walk_s:
            return None
        return page_sample.estimate(
            vmas.start[vmas.readable],
            pages,
            page_bytes=self.topology.page_bytes,
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
            backing=np.zeros(len(rows), np.int64),
            offset=np.zeros(len(rows), np.int64),
            anon_pages=count[some] * ~file,
            pages=pages,
        )
