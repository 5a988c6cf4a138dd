# SPDX-License-Identifier: Apache-2.0

"""Every series of moves of a job is a trial: what it came to is judged, and taken back where the job became slower.

Problem: a policy's own aim is no evidence, and a job's speed is told late and unevenly.
Primitive: the job's speeds by look, before its first move and again once that has settled; what is between is left out.
Application: a job that reports progress is watched for a while before it is first moved, and left alone while it is
judged. Without evidence a trial ends unverified as soon as nothing moves any more.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from numad_py.guard import taking_back
from numad_py.guard.limits import GIVING_UP, LONGEST_WAIT_S, PING_PONG_COOLDOWNS, Limits, doubled
from numad_py.guard.taking_back import Origin
from numad_py.guard.verification import KEPT, LOOKS_AFTER, LOOKS_BEFORE, Speedometer, compare
from numad_py.model import (
    Ending,
    Job,
    Judged,
    MovePages,
    Outcome,
    Process,
    ProcessKey,
    Reason,
    Refusal,
    Snapshot,
    Unjudged,
    Verdict,
    Wait,
)
from numad_py.topology import Topology

WATCHED_S = 60.0  # at most, before a job that reports progress is moved
SETTLED_S = 2.0  # after the last move: what it disturbed is over
MOVING_S = 15.0  # then what is moved so far is judged; twice as long after each time that it helped
JUDGED_WITHIN_S = 60.0  # for so long a job is left alone for it
GIVEN_UP_S = 600.0
LONGEST_TAKING_BACK_S = 300.0
WAIT_TIMES_BACKOFF = 4  # the first time; twice as long each time


@dataclass(eq=False)
class _Trial:
    """Moves of a job since when, until when; its speeds before and after; and whether it began before a restart."""

    began_s: float
    before: tuple[float, ...]
    moved_s: float = 0.0
    after: list[float] = field(default_factory=list)
    recalled: bool = False


@dataclass(eq=False)
class _Record:
    """What is known of a job.

    ``origins`` are where the pages of its processes were, ``back`` what is to be moved there, and ``owed`` the processes
    of which that is not known yet.
    """

    watched_s: float
    speedometer: Speedometer = field(default_factory=Speedometer)
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    trial: _Trial | None = None
    helped: int = 0
    moved_s: float = 0.0
    wait: Wait = field(default_factory=Wait)
    origins: dict[ProcessKey, Origin] = field(default_factory=dict)
    back: list[MovePages] = field(default_factory=list)
    owed: set[ProcessKey] = field(default_factory=set)
    back_until_s: float = 0.0


class Trials:
    """Follows the jobs of one guard."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: dict[int, _Record] = {}
        self._ping_pong: dict[int, ProcessKey] = {}
        self._job_of: dict[ProcessKey, int] = {}

    def look(self, snapshot: Snapshot, left: Mapping[ProcessKey, dict[str, float]]) -> tuple[Judged, ...]:
        """See how fast every job is, judge those that are due, and give way where pages ``left`` again."""
        now_s, before = snapshot.time_s, self._records
        self._records = {job.cgroup_id: before.pop(job.cgroup_id, _Record(now_s)) for job in snapshot.jobs}
        self._records |= {job: gone for job, gone in before.items() if now_s < _remembered_until_s(gone)}
        self._job_of = {process.key: job.cgroup_id for job in snapshot.jobs for process in job.processes}
        judged = [each for job in snapshot.jobs if (each := self._judge(job, snapshot.topology, now_s))]
        self._ping_pong = {}
        gave_way = {self._job_of[key]: figures for key, figures in left.items()}
        judged += [self._give_way(job, figures, now_s) for job, figures in gave_way.items()]
        return tuple(judged)

    def wishes(self) -> Iterator[MovePages]:
        """Give what is to be taken back now: of each process one move at a time."""
        for record in self._records.values():
            yield from {move.process: move for move in reversed(record.back)}.values()

    def refusal(self, key: ProcessKey, now_s: float) -> tuple[Refusal, dict[str, float]] | None:
        """Say why a process is not to be moved now, and by what figures."""
        record = self._records[self._job_of[key]]
        wait, trial = record.wait, record.trial
        if now_s < wait.quiet_until_s or record.back or record.owed:
            figures = {"wait_s": max(wait.quiet_until_s - now_s, 0.0), "failures": float(wait.failures)}
            return Refusal.NO_HELP, figures
        if trial and record.speedometer.source and self._is_judged(record, trial, now_s):
            looks = float(len(trial.after))
            return Refusal.JUDGED, {"looks": looks, "looks_wanted": float(LOOKS_AFTER)}
        watched = record.speedometer.source == "progress" and now_s < record.watched_s + WATCHED_S
        if not trial and watched and len(record.speeds) < LOOKS_BEFORE:
            return Refusal.UNKNOWN_PACE, {
                "looks": float(len(record.speeds)),
                "looks_wanted": float(LOOKS_BEFORE),
            }
        return None

    def _is_judged(self, record: _Record, trial: _Trial, now_s: float) -> bool:
        moving = not trial.after and now_s < trial.began_s + doubled(MOVING_S, record.helped)
        return not moving and now_s < trial.moved_s + JUDGED_WITHIN_S

    def learn(self, process: Process, move: MovePages, outcome: Outcome, now_s: float) -> None:
        """Take what became of a granted move."""
        record = self._records[self._job_of[move.process]]
        if move.reason is Reason.TAKEN_BACK:
            self._learn_of_taking_back(record, move, outcome)
        elif outcome.moved_bytes:
            self.moved(move.process, now_s)
            nodes, known = process.regions.pages.shape[1], record.origins.get(move.process)
            known = known if known and known.pages.shape[1] == nodes else taking_back.origin(nodes)
            record.origins[move.process] = known.with_move(move, process)

    def moved(self, key: ProcessKey, now_s: float) -> None:
        """Note that pages or threads of a process were moved."""
        record = self._records[self._job_of[key]]
        if record.trial is None or (record.trial.after and now_s >= record.trial.moved_s + JUDGED_WITHIN_S):
            record.trial = _Trial(now_s, tuple(record.speeds))
        if now_s >= record.moved_s + PING_PONG_COOLDOWNS * self._limits.cooldown_s:
            record.origins = {}
        record.trial.moved_s = record.moved_s = now_s
        record.trial.after.clear()

    def ping_pong(self, key: ProcessKey) -> None:
        """Note that pages of a process went back and forth."""
        self._ping_pong[self._job_of[key]] = key

    def waits(self, now_s: float) -> tuple[tuple[int, Wait], ...]:
        """Give the jobs that are left alone."""
        return tuple(
            (job, each.wait) for job, each in self._records.items() if now_s < each.wait.quiet_until_s
        )

    def unjudged(self) -> Iterator[Unjudged]:
        """Give what has to be judged, or taken back, whatever happens to us."""
        for job in sorted(set(self._job_of.values())):
            record = self._records[job]
            trial, back = record.trial, bool(record.back or record.owed)
            if back or (trial and record.origins and len(trial.before) >= LOOKS_BEFORE):
                yield Unjudged(
                    job,
                    trial.began_s if trial else record.moved_s,
                    record.moved_s,
                    trial.before if trial else (),
                    tuple(origin.kept(key) for key, origin in record.origins.items()),
                    record.back_until_s if back else 0.0,
                )

    def recall(self, waits: Iterable[tuple[int, Wait]], unjudged: Iterable[Unjudged]) -> None:
        """Take what was waited for, and was not judged, before a restart."""
        self._records |= {job: _Record(0.0, wait=wait) for job, wait in waits}
        for each in unjudged:
            record = self._records.setdefault(each.cgroup_id, _Record(0.0))
            record.origins = {whence.process: taking_back.recalled(whence) for whence in each.whence}
            record.moved_s, record.back_until_s = each.moved_s, each.back_until_s
            if each.back_until_s:
                record.owed = set(record.origins)
            else:
                record.trial = _Trial(each.began_s, each.speeds, each.moved_s, recalled=True)

    def _learn_of_taking_back(self, record: _Record, move: MovePages, outcome: Outcome) -> None:
        """Leave it at that where nothing more will come of it; else it goes on at the next turn."""
        if outcome.ending is Ending.DONE or outcome.ending in GIVING_UP:
            what = (move.process, move.targets, move.among)
            record.back = [each for each in record.back if (each.process, each.targets, each.among) != what]
            _forget_origins(record)

    def _judge(self, job: Job, on: Topology, now_s: float) -> Judged | None:
        record = self._records[job.cgroup_id]
        if not record.speedometer.source:
            record.watched_s = now_s
        speed = record.speedometer.read(job, now_s)
        if record.back or record.owed:
            self._go_on_taking_back(job, record, on, now_s)
            return None
        if job.cgroup_id in self._ping_pong:
            self._take_back(job, record, on, now_s)
            return Judged(job.cgroup_id, Verdict.PING_PONG, {"failures": float(record.wait.failures)})
        trial = record.trial
        if trial is None:
            record.speeds.extend([speed[0]] if speed else [])
            return None
        if speed and speed[1] >= trial.moved_s + SETTLED_S:
            trial.after.append(speed[0])
        return self._conclude(job, record, trial, on, now_s)

    def _conclude(
        self, job: Job, record: _Record, trial: _Trial, on: Topology, now_s: float
    ) -> Judged | None:
        silent = not record.speedometer.source and not trial.recalled  # after a restart it is heard of anew
        hopeless = silent or len(trial.before) < LOOKS_BEFORE
        over = now_s >= trial.moved_s + (SETTLED_S if hopeless else GIVEN_UP_S)
        if len(trial.after) < LOOKS_AFTER and not over:
            return None
        verdict, figures = compare(trial.before, trial.after)
        unverified = verdict is Verdict.UNVERIFIED
        record.trial, record.watched_s = None, now_s
        record.speeds = deque((*trial.before, *trial.after) if unverified else trial.after, maxlen=KEPT)
        record.helped += verdict is Verdict.HELPED
        if verdict is Verdict.TAKEN_BACK:
            self._take_back(job, record, on, now_s)
        elif unverified:  # pages may go back and forth yet, but not those of who has ended
            record.origins = {key: each for key, each in record.origins.items() if key in self._job_of}
        else:
            record.origins = {}
            record.wait = Wait() if verdict is Verdict.HELPED else self._longer(record.wait, 1, now_s)
        return Judged(job.cgroup_id, verdict, figures | {"failures": float(record.wait.failures)})

    def _take_back(self, job: Job, record: _Record, on: Topology, now_s: float) -> None:
        """Wish the job's pages back, and leave it alone for twice as long as the last time."""
        record.wait = self._longer(record.wait, WAIT_TIMES_BACKOFF, now_s)
        record.owed, record.back_until_s = set(record.origins), now_s + LONGEST_TAKING_BACK_S
        record.trial, record.helped = None, 0
        record.speeds.clear()
        self._go_on_taking_back(job, record, on, now_s)

    def _go_on_taking_back(self, job: Job, record: _Record, on: Topology, now_s: float) -> None:
        """Wish back what is owed to each process once it is seen; forget who has ended, and all after a while."""
        processes = {process.key: process for process in job.processes}
        record.back = [each for each in record.back if each.process in processes]
        for key in sorted(record.owed & processes.keys()):
            record.back += taking_back.wishes(record.origins[key], processes[key], on)
        record.owed -= processes.keys()
        if now_s >= record.back_until_s:
            record.back, record.owed = [], set()
        _forget_origins(record)

    def _give_way(self, job: int, figures: dict[str, float], now_s: float) -> Judged:
        record = self._records[job]
        record.wait = self._longer(record.wait, WAIT_TIMES_BACKOFF, now_s)
        record.trial, record.back, record.origins = None, [], {}
        record.owed.clear()
        return Judged(job, Verdict.GAVE_WAY, figures | {"failures": float(record.wait.failures)})

    def _longer(self, wait: Wait, times: int, now_s: float) -> Wait:
        """Wait twice as long as the last time that a move did not help."""
        wait_s = min(doubled(times * self._limits.backoff_s, wait.failures), LONGEST_WAIT_S)
        return replace(wait, failures=wait.failures + 1, quiet_until_s=now_s + wait_s)


def _forget_origins(record: _Record) -> None:
    """Forget them once all is back."""
    if not record.back and not record.owed:
        record.origins = {}


def _remembered_until_s(record: _Record) -> float:
    """Say how long a job that is not seen is remembered: it may only be hidden."""
    judged_s = record.trial.moved_s + GIVEN_UP_S if record.trial and record.trial.recalled else 0.0
    return max(record.wait.quiet_until_s, judged_s)
