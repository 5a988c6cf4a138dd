# SPDX-License-Identifier: Apache-2.0

"""Keep what processes say of their own progress, by job, and of their steps.

Problem: any process may say anything, and most that do are of no job.
Primitive: of a process only the newest word counts, and only what it adds to the one before. So a process that
begins anew, or joins late, neither sets its job back nor carries it forward.
Application: words come in a thread of their own; a look takes what has come since the last. Words that end a step
are kept for a while, since moves wait for the next.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from numad_py import rhythm
from numad_py.model import Job
from numad_py.rhythm import Ended, Rhythm

MOST_PROCESSES: Final = 1024  # of all jobs, that are listened to
FURTHEST: Final = 1e15


@dataclass(eq=False)
class _Told:
    """What a job's processes said: how far each is, and how far they came together, as of when."""

    at: dict[int, float] = field(default_factory=dict)
    progress: float = 0.0
    time_s: float = 0.0


class Reported:
    """What the processes of jobs said of their progress since the daemon began to listen."""

    def __init__(self) -> None:
        self._news: dict[int, tuple[float, float]] = {}  # by PID: when, how far
        self._told: dict[int, _Told] = {}  # by cgroup id
        self._ends: dict[int, tuple[Ended, ...]] = {}  # by PID

    def hear(self, pid: int, word: bytes, time_s: float) -> None:
        """Take one word, of how far and, at the end of a step, what slack was before it; from any thread.

        What is no number, or one too many, is passed over.
        """
        try:
            step, *slack_s = map(float, word.split())
        except ValueError:
            return
        if abs(step) <= FURTHEST and (pid in self._news or len(self._news) < MOST_PROCESSES):
            self._news[pid] = (time_s, step)
            if slack_s and 0 <= slack_s[0] <= FURTHEST:
                ends = (*self._ends.get(pid, ()), Ended(time_s, step, slack_s[0]))
                self._ends[pid] = ends[-rhythm.REPORTS :]

    def rhythm(self, pid: int) -> Rhythm | None:
        """Give the rhythm in which a process says that it makes steps, if there is one; from any thread."""
        return rhythm.found(self._ends.get(pid, ()))

    def look(self, pids: Mapping[int, Iterable[int]]) -> None:
        """Add what has come of each job, whose processes are those; forget the jobs and processes that are gone."""
        news, self._news = self._news, {}
        told, self._told = self._told, {}
        ends = self._ends  # what is heard meanwhile may be lost, which is no harm
        self._ends = {pid: ends[pid] for members in pids.values() for pid in members if pid in ends}
        for job, members in pids.items():
            before = told.get(job)
            heard = {pid: news[pid] for pid in members if pid in news} if news else {}
            if heard or before:
                self._told[job] = _after(before or _Told(), heard, members)

    def of(self, job: Job, now_s: float) -> Job:
        """Give the job with what its processes said."""
        told = self._told.get(job.cgroup_id)
        if told is None:
            return job
        return replace(job, progress=told.progress, progress_age_s=max(now_s - told.time_s, 0.0))


def _after(told: _Told, heard: Mapping[int, tuple[float, float]], members: Iterable[int]) -> _Told:
    """Add what is new; only as much counts as each process came further."""
    further = math.fsum(max(step - told.at.get(pid, step), 0.0) for pid, (_, step) in heard.items())
    at = {pid: told.at[pid] for pid in members if pid in told.at} if told.at else {}
    at |= {pid: step for pid, (_, step) in heard.items()}
    newest_s = max((time_s for time_s, _ in heard.values()), default=told.time_s)
    return _Told(at, told.progress + further, newest_s)
