# SPDX-License-Identifier: Apache-2.0

"""What is known of one process, since when, and what speaks for looking again."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.kernel import proc_stat
from numad_py.model import JobMemory, PlacementSource, Process, ProcessKey, Threads
from numad_py.sense.cpu_time import NO_THREADS
from numad_py.sense.placement import Placement

UNCHANGED_SHARE: Final = 0.01
LOCKED_SHARE: Final = 0.0005  # of its time, that a process may be kept from its memory by our reading
UNTOLD_SHARE: Final = 0.1  # of what is resident, from which on a walk for its mempolicies is worth it
QUIET_S: Final = 10.0  # for which a process whose address space is as large as before is taken to map nothing
LEARNT_S: Final = 3600.0  # after which mempolicies are asked again: they may be changed without a trace
TRUSTED_SHARE: Final = 0.20  # of RssAnon, by which memory.numa_stat may differ and still be believed
LIKELY_THREADS_S: Final = 200e-6  # until it was read once
LIKELY_PLACEMENT_S: Final = 3e-3
NEVER_S: Final = float("-inf")


@dataclass(frozen=True, eq=False)
class Then:
    """How things stood when a placement was read."""

    stat: proc_stat.Stat
    memory: JobMemory | None
    migrated_pages: int
    page_bytes: int


@dataclass(eq=False)
class Known:
    """One process of a job, which is named by its cgroup id, and was seen first at ``seen_s``.

    ``threads`` are those that ran before ``threads_s``, when they were read. ``placement`` was read at
    ``placement_s``, and nothing could have changed it until ``sure_s``. ``was_moved`` is by us, since.
    ``why`` says why the process is left out, if it is, until ``retry_s``. A walk for what a
    sample cannot tell was begun at ``walked_s``, and kept it from its memory for ``walk_locked_s`` at most.
    ``line`` is its own in /proc, which told ``stat``. Its address space is as large as it was at ``same_size_s``, when it last was of another size.
    """

    key: ProcessKey
    stat: proc_stat.Stat
    job: int
    seen_s: float
    line: bytes = b""
    threads: Threads = NO_THREADS
    threads_s: float = NEVER_S
    threads_cost_s: float = LIKELY_THREADS_S
    placement: Placement | None = None
    placement_s: float = NEVER_S
    sure_s: float = NEVER_S
    then: Then | None = None
    was_moved: bool = False
    walked_s: float = NEVER_S
    walk_locked_s: float = 0.0
    why: str = ""
    retry_s: float = NEVER_S
    same_size_s: float = NEVER_S

    def glance(self, stat: proc_stat.Stat, now_s: float) -> None:
        """Take over what its line told."""
        if stat.vsize_bytes != self.stat.vsize_bytes:
            self.same_size_s = now_s
        self.stat = stat

    def is_quiet(self, now_s: float) -> bool:
        """Say whether it has not mapped or unmapped anything lately, so that nobody would wait for the lock of a walk."""
        return now_s - max(self.same_size_s, self.seen_s) >= QUIET_S

    @property
    def ticks(self) -> int:
        """CPU time of all its threads."""
        return self.stat.utime_ticks + self.stat.stime_ticks

    @property
    def rss_anon_bytes(self) -> int:
        """RssAnon, as if all that came and went since it was read had been anonymous."""
        if self.placement is None or self.then is None:
            return 0
        change_pages = self.stat.rss_pages - self.then.stat.rss_pages
        return max(self.placement.status.rss_anon_bytes + change_pages * self.then.page_bytes, 0)

    @property
    def rows(self) -> int:
        """How many regions and VMAs are remembered of it."""
        return self.placement.rows if self.placement else 0

    def placement_cost_s(self, likely_s: float) -> float:
        """CPU time that reading its placement took; where it was not read yet, what that is likely to take."""
        return self.placement.cost_s if self.placement and not self._was_walked else likely_s

    def remember(self, placement: Placement, now_s: float) -> None:
        """Take over what was read."""
        self.placement, self.placement_s, self.sure_s, self.was_moved = placement, now_s, now_s, False
        if self._was_walked:
            self.walked_s, self.walk_locked_s = now_s, placement.locked_s

    def walk_s(self, now_s: float) -> float:
        """Give what a walk for its mempolicies would take, where one is due; else 0."""
        if self.placement is None:
            return 0.0
        age_s = now_s - self.walked_s
        untold = self.placement.untold_share > UNTOLD_SHARE or age_s >= LEARNT_S
        walk_s = self.placement.quiet_walk_s if self.is_quiet(now_s) else self.placement.walk_s
        return walk_s if untold and self.walk_locked_s <= LOCKED_SHARE * age_s else 0.0

    def begin_walk(self, likely_s: float, now_s: float) -> None:
        """Note that a walk begins: one that never ends is not begun again at once."""
        self.walked_s, self.walk_locked_s = now_s, likely_s

    def rested(self, age_s: float) -> bool:
        """Say whether it may be kept from its memory again, as long as at the last reading; walks rest by themselves."""
        if self.placement is None or self.was_moved or self._was_walked:
            return True
        return self.placement.locked_s <= LOCKED_SHARE * age_s

    @property
    def _was_walked(self) -> bool:
        """Whether the last reading was a walk, and the next is a sample."""
        then = self.placement
        return then is not None and then.learnt is not None and then.source is PlacementSource.NUMA_MAPS

    def is_where_it_was(self, migrated_pages: int) -> bool:
        """Say whether its pages must be where they were: it got none, lost none, and nobody moved any."""
        then = self.then
        return (
            then is not None
            and not self.was_moved
            and (then.stat is self.stat or _footprint(then.stat) == _footprint(self.stat))
            and then.migrated_pages == migrated_pages
        )

    def may_have_changed(self, trusted: JobMemory | None, migrated_pages: int) -> bool:
        """Say whether something speaks for pages having come, gone or moved since they were read.

        ``trusted`` is what the job is charged, where that may be believed: then it alone decides.
        """
        then = self.then
        if then is None or self.was_moved:
            return True
        if trusted is not None and then.memory is not None:
            return _moved(then.memory, trusted)
        if _footprint(then.stat) != _footprint(self.stat):
            return True
        ran = then.stat.utime_ticks + then.stat.stime_ticks != self.ticks
        return ran and then.migrated_pages != migrated_pages

    def told(self, now_s: float) -> Process | None:
        """Give what there is to tell; None where the pages were not seen yet, or cannot be."""
        if self.placement is None or self.why:
            return None
        return Process(
            self.key,
            self.stat.comm,
            self.placement.status.nodes_allowed,
            self.threads,
            self.placement.regions,
            now_s - self.sure_s,
            now_s - self.threads_s,
            self.placement.source,
            self.placement.error_share,
        )


def agrees(memory: JobMemory, rss_anon_bytes: int) -> bool:
    """Say whether memory.numa_stat may be believed.

    Charges stay in the cgroup where a page was charged first, so that after
    late labelling a job can show 0 where its processes hold gigabytes.
    """
    return abs(int(memory.anon_bytes.sum()) - rss_anon_bytes) <= TRUSTED_SHARE * rss_anon_bytes


def _footprint(stat: proc_stat.Stat) -> tuple[int, int, int, int]:
    """Give what must change before a process can have a page that it had not, or lose one."""
    return stat.minor_faults, stat.major_faults, stat.rss_pages, stat.vsize_bytes


def _moved(before: JobMemory, now: JobMemory) -> bool:
    """Say whether a job's bytes on any node changed by more than a hundredth of the job."""
    was = before.anon_bytes + before.file_bytes
    moved = np.abs(now.anon_bytes + now.file_bytes - was)
    return bool((moved > UNCHANGED_SHARE * was.sum()).any())
