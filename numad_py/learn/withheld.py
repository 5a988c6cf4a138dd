# SPDX-License-Identifier: Apache-2.0

"""What moving takes away of remote accesses, by counters: jobs that were moved beside jobs that were withheld.

Problem: prices say what a move saves where all that is remote comes at once. What comes late, or is used more than the
rest, saves another part.
Primitive: who is withheld is drawn, so that the two kinds of jobs differ in nothing but that. How much less of the
accesses of the moved ones is remote, from when they were to be moved, is what moving took away.
Application: labels of what was recorded with counters that tell local from remote are multiplied by that part.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from numad_py.model import Job, ProcessKey, Refusal, Tick
from numad_py.topology import Floats

FEWEST: Final = 5  # jobs of either kind: of fewer the spread is not known


@dataclass(frozen=True, eq=False)
class Effect:
    """How much of their accesses was remote, by job: of those that were moved, and of those that were withheld."""

    moved: Floats
    withheld: Floats

    @classmethod
    def of(cls, ticks: Iterable[Tick]) -> Self | None:
        """Compare the jobs of one recording; None where fewer than `FEWEST` of either kind were counted."""
        arms: dict[int, bool] = {}
        counted: dict[int, Floats] = {}
        for tick in ticks:
            for job in tick.snapshot.jobs:
                told = _counted(job)
                if told is not None and job.cgroup_id in arms:
                    counted[job.cgroup_id] = counted.get(job.cgroup_id, np.zeros(2)) + told
            job_of = {each.key: job.cgroup_id for job in tick.snapshot.jobs for each in job.processes}
            for key, moved in _told(tick):
                if key in job_of:
                    arms.setdefault(job_of[key], moved)
        shares = {
            kind: np.array(
                [remote / (local + remote) for job, (local, remote) in counted.items() if arms[job] is kind]
            )
            for kind in (True, False)
        }
        enough = min(map(len, shares.values())) >= FEWEST
        return cls(shares[True], shares[False]) if enough and shares[False].any() else None

    @property
    def gone_share(self) -> float:
        """Give the part of remote accesses that moving took away; 0 where there are more of them."""
        return float(max(1 - self.moved.mean() / self.withheld.mean(), 0.0))

    @property
    def error(self) -> float:
        """Give the standard error of that part."""
        of_means = [
            arm.var(ddof=1) / len(arm) / arm.mean() ** 2 for arm in (self.moved, self.withheld) if arm.any()
        ]
        return float(self.moved.mean() / self.withheld.mean() * np.sqrt(sum(of_means)))

    def __str__(self) -> str:
        return (
            f"{len(self.moved)} jobs were moved and {len(self.withheld)} withheld: {self.moved.mean():.2f} and "
            f"{self.withheld.mean():.2f} of their accesses were remote, so that moving took away "
            f"{self.gone_share:.2f} of them (standard error {self.error:.2f})"
        )


def _counted(job: Job) -> Floats | None:
    """Give a job's local and remote accesses, where calibration saw that its counters tell them apart, and there are any."""
    found = job.counters
    if found is None or not found.verified or found.remote_access_share is None:
        return None
    return np.array([found.local_accesses, found.remote_accesses])


def _told(tick: Tick) -> Iterable[tuple[ProcessKey, bool]]:
    """Give who was moved, and who was not because it was drawn."""
    for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=False):
        if outcome.moved_bytes:
            yield move.process, True
    for held in tick.plan.held:
        if held.why is Refusal.WITHHELD:
            yield held.process, False
