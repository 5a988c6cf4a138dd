# SPDX-License-Identifier: Apache-2.0

"""What a sensor within its budget would have seen of a simulated machine.

Problem: a policy that is shown the true state of everything at every look is better than it will ever be in life.

Primitive: of each process the sensor knows what it read last. It reads again when something changed, not sooner than its
budget and the process's rest allow; what is too large to be walked it samples, and of what is larger still it knows the
mempolicies only once the process has mapped nothing for a while.

Application: between a `ReplayedMachine` and its policy; scores are of the true state. Draws come from the seed and the
process alone, so that all policies are shown alike what is alike.

The figures are the sensor's own rules (`numad_py/sense/sensor.py`), and what `bench/at_rest.py` measured of them with 200
processes under one per cent of a core; of 50 and of 10, who runs is read at every look, and who is new at the next.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from numad_py.model import (
    Job,
    Mempolicy,
    PlacementSource,
    Process,
    ProcessKey,
    Regions,
    Snapshot,
    Threads,
)
from numad_py.sim.placement import apportion
from numad_py.topology import Floats, Ints

_UNKNOWN = int(Mempolicy.UNKNOWN)


@dataclass(frozen=True)
class Acuity:
    """How well is seen. Where two figures stand, each process has one of its own between them.

    ``first_s`` is how long nothing is known of a new process; ``changed_s`` how old a placement gets that is known to
    have changed, and ``cpu_s`` the CPU time of who runs, all three among ``processes``, and in proportion among fewer.
    Walking a page takes ``walk_s``, and each VMA ``vma_s`` besides; a process is kept from its memory for ``locked_share`` of the time at most, and sampled where a walk takes longer than ``longest_walk_s``, with
    ``sampled_pages``. Of a sample mempolicies are known where a first walk took no longer than ``first_walk_s``, or
    ``quiet_walk_s`` once the process had not mapped or unmapped anything for ``quiet_s``.
    """

    seed: int = 1
    processes: int = 200
    first_s: tuple[float, float] = (0.5, 6.0)
    changed_s: tuple[float, float] = (1.0, 5.0)
    cpu_s: tuple[float, float] = (1.0, 2.5)
    walk_s: float = 55e-9
    vma_s: float = 5e-6
    locked_share: float = 0.0005
    longest_walk_s: float = 5e-3
    sampled_pages: int = 512
    first_walk_s: float = 0.1
    quiet_walk_s: float = 2.0
    quiet_s: float = 10.0


@dataclass(eq=False)
class _Known:
    """One process: when it was met, what was true of it when it was read, and what was seen then.

    It has ``mapped`` what it has since ``mapped_s``; once it was ``walked``, its mempolicies are known.
    """

    met_s: float
    random: np.random.Generator
    first_s: float
    changed_s: float
    cpu_every_s: float
    seen: Regions
    mapped: Regions
    mapped_s: float
    truth: Regions | None = None
    error_share: float = 0.0
    read_s: float = -np.inf
    threads: Threads | None = None
    threads_s: float = -np.inf
    walked: bool = False

    def follow(self, regions: Regions, now_s: float) -> None:
        """See whether it mapped or unmapped anything."""
        before, self.mapped = self.mapped, regions
        if not _alike(before, regions):
            self.mapped_s = now_s


class Sight:
    """Follows what is known of each process of one machine."""

    def __init__(self, acuity: Acuity) -> None:
        self._acuity = acuity
        self._known: dict[ProcessKey, _Known] = {}

    def see(self, truth: Snapshot, moved: AbstractSet[ProcessKey]) -> Snapshot:
        """Give the snapshot as seen; of processes that were ``moved`` since the last one it is known that they changed."""
        before, self._known = self._known, {}
        crowd = min(len(truth.processes) / self._acuity.processes, 1.0)
        for process in truth.processes:
            self._known[process.key] = before.get(process.key) or self._meet(process, truth.time_s, crowd)
        jobs = tuple(self._job(job, truth.time_s, moved) for job in truth.jobs)
        return replace(truth, jobs=jobs)

    def _meet(self, process: Process, now_s: float, crowd: float) -> _Known:
        acuity, random = self._acuity, np.random.default_rng([self._acuity.seed, *process.key])
        nothing = Regions.empty(process.regions.pages.shape[1])
        ranges = np.transpose([acuity.first_s, acuity.changed_s, acuity.cpu_s])
        first_s, changed_s, cpu_s = (crowd * random.uniform(*ranges)).tolist()
        return _Known(now_s, random, first_s, changed_s, cpu_s, nothing, process.regions, now_s)

    def _job(self, job: Job, now_s: float, moved: AbstractSet[ProcessKey]) -> Job:
        processes = []
        for process in job.processes:
            known = self._known[process.key]
            if now_s - known.met_s >= known.first_s:
                processes.append(self._process(process, known, now_s, moved=process.key in moved))
        return replace(job, processes=tuple(processes))

    def _process(self, process: Process, known: _Known, now_s: float, *, moved: bool) -> Process:
        asleep = not len(process.threads.tid)  # which one line of /proc/PID/stat tells
        if asleep or known.threads is None or now_s - known.threads_s >= known.cpu_every_s:
            known.threads, known.threads_s = process.threads, now_s - process.cpu_age_s
        known.follow(process.regions, now_s)
        walk = not known.walked and self._may_walk(known, now_s)
        if known.truth is process.regions and not walk:
            known.read_s = now_s  # the same line says that nothing changed
        elif walk or known.truth is None or moved or now_s - known.read_s >= self._rest_s(known):
            known.walked |= walk
            self._read(process.regions, known, now_s)
        return replace(
            process,
            threads=known.threads,
            cpu_age_s=now_s - known.threads_s,
            regions=known.seen,
            placement_age_s=now_s - known.read_s,
            placement_source=PlacementSource.PAGE_SAMPLE if known.error_share else process.placement_source,
            placement_error_share=known.error_share or process.placement_error_share,
        )

    def _rest_s(self, known: _Known) -> float:
        """Give how long a process rests between two readings."""
        locked_s = 0.0
        if known.truth is not None and not known.error_share:
            locked_s = self._walk_s(known.truth) + len(known.truth) * self._acuity.vma_s
        return max(known.changed_s, locked_s / self._acuity.locked_share)

    def _may_walk(self, known: _Known, now_s: float) -> bool:
        """Say whether a walk may tell its mempolicies."""
        regions = known.mapped
        if now_s - known.mapped_s >= self._acuity.quiet_s:
            return self._walk_s(regions) <= self._acuity.quiet_walk_s
        return self._longest_walk_s(regions) <= self._acuity.first_walk_s

    def _longest_walk_s(self, regions: Regions) -> float:
        return float(regions.pages.sum(axis=1).max(initial=0)) * self._acuity.walk_s

    def _walk_s(self, regions: Regions) -> float:
        return float(regions.pages.sum()) * self._acuity.walk_s

    def _read(self, regions: Regions, known: _Known, now_s: float) -> None:
        known.truth, known.seen, known.read_s, known.error_share = regions, regions, now_s, 0.0
        if self._longest_walk_s(regions) > self._acuity.longest_walk_s:
            share, known.error_share = self._sampled(regions, known)
            unknown = np.full_like(regions.mempolicy, _UNKNOWN)
            mempolicy = regions.mempolicy if known.walked else unknown
            known.seen = replace(regions, pages=_skewed(regions.pages, share), mempolicy=mempolicy)

    def _sampled(self, regions: Regions, known: _Known) -> tuple[Floats, float]:
        """Give by node how many times as many pages were found as there are, and the half width of its interval."""
        pages, draws = regions.pages.sum(axis=0), self._acuity.sampled_pages
        share = pages / pages.sum()
        found = known.random.multinomial(draws, share) / draws
        error = 1.96 * float(np.sqrt(np.max(found * (1 - found)) / draws))
        return np.where(share > 0, found / np.maximum(share, 1e-12), 1.0), max(error, 1.96**2 / draws)


def _alike(before: Regions, now: Regions) -> bool:
    """Say whether these are the same ranges."""
    pairs = (before.start, now.start), (before.end, now.end)
    return all(then is after or np.array_equal(then, after) for then, after in pairs)


def _skewed(pages: Ints, times: Floats) -> Ints:
    """Give each row's pages, as many as there are, by node so many times as often as they are there."""
    return apportion(np.rint(pages * times).astype(np.int64), pages.sum(axis=1))
