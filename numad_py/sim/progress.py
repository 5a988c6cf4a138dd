# SPDX-License-Identifier: Apache-2.0

"""How far jobs say that they came, on the simulated machine.

Problem: a job reported its progress under the placement that it had when it was recorded.
Primitive: what a job came further by between two looks is work; here it takes as long as `work` says, and so in the
time of a look as much less of it is done.
Application: `ReplayedMachine` tells the guard what the score will say of the same moves.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from numad_py.model import Job, ProcessKey, Snapshot
from numad_py.sim.cost import Prices
from numad_py.sim.use import Users
from numad_py.sim.work import JobTimes, sharing


class Progress:
    """Follows the jobs of one machine."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._users = Users(len(prices.latency_ns))
        self._times = JobTimes()
        self._known: dict[int, tuple[float, float]] = {}  # by job: as it was recorded, and here
        self._time_s: float | None = None

    def look(self, truth: Snapshot, moving_s: Mapping[ProcessKey, float]) -> Snapshot:
        """Give the snapshot with the jobs' progress here; ``moving_s`` is the time of moves since the last look."""
        elapsed_s = 0.0 if self._time_s is None else truth.time_s - self._time_s
        self._time_s = truth.time_s
        use = self._users.look(truth)
        ran_s = use.cpu_s.sum(axis=1)
        busy_s = use.cpu_s * sharing(use.cpu_s, elapsed_s, truth.topology)
        working_s = (busy_s * self._prices.slower(use.cpu_s, use.reach, elapsed_s)).sum(axis=1)
        slower = np.where(ran_s > 0, working_s / np.maximum(ran_s, 1e-12), 1.0)
        moved_s = np.array([moving_s.get(process.key, 0.0) for process in truth.processes])
        blocked_s = moved_s * np.minimum(1.0, ran_s / max(elapsed_s, 1e-9))
        took_s = self._times.add(truth, slower, blocked_s, elapsed_s)
        jobs = zip(truth.jobs, took_s, strict=True)
        return replace(truth, jobs=tuple(self._job(job, elapsed_s / (took or 1.0)) for job, took in jobs))

    def _job(self, job: Job, speed: float) -> Job:
        """Give a job that did as much of what was recorded."""
        if job.progress is None:
            return job
        recorded, here = self._known.get(job.cgroup_id, (job.progress, 0.0))
        here += max(job.progress - recorded, 0.0) * speed
        self._known[job.cgroup_id] = job.progress, here
        return replace(job, progress=here)
