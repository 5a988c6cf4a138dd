# SPDX-License-Identifier: Apache-2.0

"""Know which masks were set in which job, on disk before any thread got one, and take them back.

Problem: a mask that was narrowed is inherited by whatever the thread starts, outlives the daemon, and looks as if
its owner had chosen it.
Primitive: a mask is set in a job only where none of its threads bears it, and only on threads that nobody bound.
So whoever bears it in that job has it from us, by whatever descent, and all of them had the same before.
Application: job and mask are noted with what the mask took the place of. To restore, every thread of the job that
bears a noted mask gets that back, until none does; what its owner has rebound since bears another.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import structlog

from numad_py.act.masks import Mask, Masks, Thread
from numad_py.kernel import Malformed, cgroup, cpulist, migration
from numad_py.model import ProcessKey

ROUNDS: Final = 20  # in which those that are born meanwhile are met too


@dataclass(frozen=True)
class Noted:
    """One mask that was set in a job, and what its threads asked for before; lists of CPUs as the kernel writes them."""

    cpus: str
    before: str


@dataclass(frozen=True)
class Narrowed:
    """One job in which affinities were changed; ``processes`` are met wherever they went since.

    ``apart`` are ids of cgroups below it that were not of the job whenever a mask was set.
    """

    cgroup_id: int
    directory: str
    masks: tuple[Noted, ...] = ()
    processes: tuple[ProcessKey, ...] = ()
    apart: tuple[int, ...] = ()


@dataclass(frozen=True)
class Affinities:
    """All that is to be restored; without meaning after another boot."""

    boot_id: str
    jobs: tuple[Narrowed, ...] = ()


@dataclass(frozen=True)
class Change:
    """What is about to be done to a process of a job."""

    job: Narrowed
    process: ProcessKey
    mask: Mask
    before: Mask


@dataclass(frozen=True)
class Restored:
    """How many threads got back what they had, and how many of the changed processes their owners had rebound."""

    threads: int = 0
    left_alone: int = 0

    def __add__(self, more: "Restored") -> "Restored":
        return Restored(self.threads + more.threads, self.left_alone + more.left_alone)


class AffinityJournal:
    """Keeps what is to be restored; ``save`` returns once it is on disk, or raises OSError."""

    def __init__(
        self, masks: Masks, boot_id: str, kept: Affinities | None, save: Callable[[Affinities], None]
    ) -> None:
        self.masks = masks
        self._boot_id = boot_id
        self._save = save
        jobs = kept.jobs if kept and kept.boot_id == boot_id else ()
        self._jobs = {job.cgroup_id: job for job in jobs}
        self.restored = Restored()  # in all, since the start
        self._told: set[tuple[int, str]] = set()

    def before(self, job: Narrowed, thread: Thread) -> Mask | None:
        """Give what a thread of the job had before us; None where it bears no mask of ours."""
        noted = self._jobs.get(job.cgroup_id, job).masks
        return next((_mask(each.before) for each in noted if thread.bears(_mask(each.cpus))), None)

    def note(self, changes: Sequence[Change]) -> list[str]:
        """Have on disk what may be done of this; say for each change why not, or nothing.

        Raises OSError where it cannot be written, and then nothing may be done.
        """
        jobs, refusals = dict(self._jobs), []
        for change in changes:
            job = jobs.get(change.job.cgroup_id, change.job)
            job = replace(job, apart=tuple(each for each in job.apart if each in change.job.apart))
            noted = Noted(cpulist.render(change.mask), cpulist.render(change.before))
            refusals.append(self._refusal(job, noted))
            if not refusals[-1]:
                masks = dict.fromkeys((*job.masks, noted))
                processes = dict.fromkeys((*job.processes, change.process))
                jobs[job.cgroup_id] = replace(job, masks=tuple(masks), processes=tuple(processes))
        self._keep(jobs)
        return refusals

    def restore(self, but: Collection[int] = ()) -> Restored:
        """Give every thread back what it had, but in the jobs with these cgroup ids; safe to repeat after a crash."""
        jobs, restored = dict(self._jobs), Restored()
        for job in self._jobs.values():
            if job.cgroup_id not in but:
                try:
                    found, why_not = self._restore(job)
                except (OSError, Malformed) as error:
                    found, why_not = Restored(), str(error)
                restored += found
                if why_not:
                    self._tell(job, why_not)
                else:
                    del jobs[job.cgroup_id]
        self._forget(jobs)
        self.restored += restored
        return restored

    def tidy(self) -> None:
        """Read the masks again, and forget those that nobody bears any more, be it for a change of the cpuset."""
        tidied = (self._tidied(job) for job in self._jobs.values())
        self._forget({job.cgroup_id: job for job in tidied if job.masks})

    def _tidied(self, job: Narrowed) -> Narrowed:
        try:
            threads = list(self._threads(job))
            alive = tuple(key for key in job.processes if any(self.masks.of_process(key)))
        except (OSError, Malformed):  # of which nothing is known may not be forgotten
            return job
        borne = (each for each in job.masks if any(thread.bears(_mask(each.cpus)) for thread in threads))
        return replace(job, masks=tuple(borne), processes=alive)

    def _refusal(self, job: Narrowed, wanted: Noted) -> str:
        """Say why it could not be told afterwards who has this mask from us, or what he had before."""
        for noted in job.masks:
            if noted.cpus == wanted.cpus:
                same = noted.before == wanted.before
                return "" if same else "threads of the job that had other CPUs before were given these"
        threads = self.masks.of_job(Path(job.directory), job.apart)
        taken = any(thread.bears(_mask(wanted.cpus)) for thread in threads if not thread.is_unbound)
        return "a thread of the job was bound to exactly these CPUs by its owner" if taken else ""

    def _tell(self, job: Narrowed, why_not: str) -> None:
        """Say it once: what could not be restored is tried again at every turn."""
        if (job.cgroup_id, why_not) not in self._told:
            self._told.add((job.cgroup_id, why_not))
            structlog.get_logger().error("affinities not restored", job=job.directory, why=why_not)

    def _keep(self, jobs: dict[int, Narrowed]) -> None:
        if jobs != self._jobs:
            self._save(Affinities(self._boot_id, tuple(jobs.values())))
            self._jobs = jobs

    def _forget(self, jobs: dict[int, Narrowed]) -> None:
        """Keep no more than these; where that cannot be written, the rest is only restored once more."""
        try:
            self._keep(jobs)
        except OSError as error:
            structlog.get_logger().warning("affinities not forgotten", why=str(error))

    def _threads(self, job: Narrowed) -> Iterator[Thread]:
        """Give every thread of the job, and those of its processes that were put elsewhere."""
        directory, met = Path(job.directory), set[int]()
        with suppress(FileNotFoundError):
            if cgroup.cgroup_id(directory) == job.cgroup_id:
                for thread in self.masks.of_job(directory, job.apart):
                    met.add(thread.tid)
                    yield thread
        for key in job.processes:
            yield from (thread for thread in self.masks.of_process(key) if thread.tid not in met)

    def _restore(self, job: Narrowed) -> tuple[Restored, str]:
        """Give threads back what they had until none is seen to bear a mask of ours, or say why some still do."""
        restored, why_not = 0, ""
        for _ in range(ROUNDS):
            given_back = 0
            for thread in self._threads(job):
                try:
                    given_back += self._give_back(job, thread)
                except ProcessLookupError:  # it ended
                    continue
                except OSError as error:
                    why_not = str(error)
            restored += given_back
            if not given_back:
                return Restored(restored, 0 if why_not else self._rebound(job)), why_not
        return Restored(restored), "threads are born faster than they are met"

    def _give_back(self, job: Narrowed, thread: Thread) -> bool:
        """Give a thread what it had, if it bears a mask of ours; say whether that can be seen."""
        before = self.before(job, thread)
        if before is not None:
            migration.set_affinity(thread.tid, before)
        return before is not None and not thread.is_unbound

    def _rebound(self, job: Narrowed) -> int:
        threads = (thread for key in job.processes for thread in self.masks.of_process(key))
        return sum(not thread.is_unbound for thread in threads)


@cache
def _mask(cpus: str) -> Mask:
    return frozenset(cpulist.parse(cpus))
