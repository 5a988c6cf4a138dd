# SPDX-License-Identifier: Apache-2.0

"""Tell what the daemon does, and what it did for each job.

Problem: whoever asks wants figures of every job, and the loop may not be kept for it.
Primitive: a tick is made of values; the loop leaves the last one here and adds up what only it can:
what was moved, what was held back, where each process was at home.
Application: the thread that answers works out the rest, for the jobs that the one who asks may see.
"""

import platform
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from numad_py import __version__
from numad_py.daemon import explaining
from numad_py.daemon.explaining import Moved, text
from numad_py.daemon.homes import Homes
from numad_py.daemon.pause import Paused
from numad_py.model import Job, LookCost, Outcome, ProcessKey, Snapshot, Tick

LATELY_S: Final = 60.0


@dataclass(frozen=True)
class SkippedProcess:
    """A process of a job that was not looked at, and why."""

    pid: int
    comm: str
    why: str


@dataclass(frozen=True)
class JobStatus:
    """One job: ``resident_bytes`` by node, in the order of the nodes; ``lately`` is within the last minute.

    ``remote_share`` is of the resident bytes: those whose process used the CPUs of other nodes when it ran last;
    none where no process ran. ``progress`` is what its processes reported, since they did first; none where none did.
    ``judged`` counts what the guard found of its moves.
    """

    cgroup: str
    cgroup_id: int
    profile: str
    labelled_by: str | None
    owner_uid: int | None
    processes: int
    resident_bytes: list[int]
    remote_share: float | None
    moved_bytes: int
    moved_lately_bytes: int
    held_back_lately: list[str]
    last_outcome: str | None
    progress: float | None
    judged: dict[str, int]
    skipped: list[SkippedProcess]
    postponed: int


@dataclass(frozen=True)
class Cost:
    """What looking costs the daemon: of its last look, and of the last minute in shares of one core."""

    look_cpu_s: float
    core_share: float
    postponed: int


@dataclass(frozen=True)
class Status:
    """The daemon, and those of its jobs that the one who asks may see. ``closed_by`` says what keeps it from acting.

    ``replaced`` says by profile why another policy stands in for one of others.
    """

    version: str
    kernel: str
    mode: str
    acting: bool
    closed_by: dict[str, str]
    paused: Paused | None
    started_unix_s: int
    nodes: list[int]
    turns: int
    last_turn_age_s: float | None
    cost: Cost
    jobs: list[JobStatus]
    replaced: dict[str, str]


@dataclass(frozen=True)
class Account:
    """What was done for one job: what moved, in all and by look; when it was last held back, by reason; verdicts on its moves."""

    moved_bytes: int = 0
    moved: Mapping[float, int] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    last_outcome: str | None = None
    judged: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Seen:
    """The last look, and what was added up until then."""

    snapshot: Snapshot
    turns: int
    accounts: Mapping[int, Account]
    homes: Homes
    lately: Mapping[ProcessKey, tuple[Moved, ...]]


@dataclass(frozen=True)
class Facts:
    """What a look does not tell of a job: the PIDs in it, who labelled it, whose its directory is."""

    pids: Collection[int] = ()
    labelled_by: str | None = None
    owner_uid: int | None = None


class Ledger:
    """Takes ticks in the loop's thread, and leaves in ``seen`` what others may read in theirs: a whole value."""

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self.started_unix_s = int(time.time())

    def write(self, tick: Tick) -> None:
        """Add a turn."""
        before, snapshot = self.seen, tick.snapshot
        accounts = _booked(before.accounts if before else {}, tick)
        homes = (before.homes if before else Homes()).after(snapshot)
        lately = explaining.after(before.lately if before else {}, tick)
        self.seen = Seen(snapshot, before.turns + 1 if before else 1, accounts, homes, lately)

    def jobs(self) -> tuple[Job, ...]:
        """Give the jobs of the last look."""
        return self.seen.snapshot.jobs if self.seen else ()

    def told(
        self,
        jobs: Iterable[tuple[Job, Facts]],
        *,
        mode: str,
        closed_by: dict[str, str],
        paused: Paused | None,
        replaced: Mapping[str, str] = MappingProxyType({}),
    ) -> Status:
        """Give the status with these jobs."""
        seen = self.seen
        cost = seen.snapshot.cost if seen else LookCost()
        return Status(
            version=__version__,
            kernel=platform.release(),
            mode=mode,
            acting=not closed_by,
            closed_by=closed_by,
            paused=paused,
            started_unix_s=self.started_unix_s,
            nodes=list(seen.snapshot.topology.node_ids) if seen else [],
            turns=seen.turns if seen else 0,
            last_turn_age_s=round(time.monotonic() - seen.snapshot.time_s, 3) if seen else None,
            cost=Cost(cost.cpu_s, cost.core_share, len(cost.postponed)),
            jobs=[_job(job, facts, seen) for job, facts in jobs] if seen else [],
            replaced={profile: text(why) for profile, why in replaced.items()},
        )


def _booked(accounts: Mapping[int, Account], tick: Tick) -> dict[int, Account]:
    """Add a turn to the accounts of the jobs that are still there."""
    booked = {job.cgroup_id: accounts.get(job.cgroup_id, Account()) for job in tick.snapshot.jobs}
    plan = tick.plan
    if not (plan.moves or plan.held or plan.judged):
        return booked
    job_of = {process.key: job.cgroup_id for job in tick.snapshot.jobs for process in job.processes}
    for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
        if (job_id := job_of.get(move.process)) is not None:
            booked[job_id] = _with_outcome(booked[job_id], outcome, tick.snapshot.time_s)
    for held in tick.plan.held:
        if (job_id := job_of.get(held.process)) is not None:
            account = booked[job_id]
            booked[job_id] = replace(account, held={**account.held, str(held.why): tick.snapshot.time_s})
    for judged in tick.plan.judged:
        account, verdict = booked[judged.cgroup_id], str(judged.verdict)
        counts = {**account.judged, verdict: account.judged.get(verdict, 0) + 1}
        booked[judged.cgroup_id] = replace(account, judged=counts)
    return booked


def _with_outcome(account: Account, outcome: Outcome, time_s: float) -> Account:
    last = f"{outcome.ending}: {outcome.detail}" if outcome.detail else str(outcome.ending)
    if not outcome.moved_bytes:
        return replace(account, last_outcome=last)
    moved = {when_s: bytes_ for when_s, bytes_ in account.moved.items() if when_s > time_s - LATELY_S}
    moved[time_s] = moved.get(time_s, 0) + outcome.moved_bytes
    return replace(
        account, moved_bytes=account.moved_bytes + outcome.moved_bytes, moved=moved, last_outcome=last
    )


def _job(job: Job, facts: Facts, seen: Seen) -> JobStatus:
    members = frozenset(facts.pids)
    account, snapshot = seen.accounts.get(job.cgroup_id, Account()), seen.snapshot
    since_s = snapshot.time_s - LATELY_S
    resident, remote, _ = seen.homes.placed(job, len(snapshot.topology.nodes)).tolist()
    ran = any(process.key in seen.homes.remote for process in job.processes)
    return JobStatus(
        cgroup=text(job.path),
        cgroup_id=job.cgroup_id,
        profile=text(job.profile),
        labelled_by=facts.labelled_by,
        owner_uid=facts.owner_uid,
        processes=len(job.processes),
        resident_bytes=resident,
        remote_share=sum(remote) / sum(resident) if ran and any(resident) else None,
        moved_bytes=account.moved_bytes,
        moved_lately_bytes=sum(bytes_ for when_s, bytes_ in account.moved.items() if when_s > since_s),
        held_back_lately=sorted(why for why, when_s in account.held.items() if when_s > since_s),
        last_outcome=account.last_outcome,
        progress=job.progress,
        judged=dict(account.judged),
        skipped=[
            SkippedProcess(each.process.pid, text(each.comm), text(each.why))
            for each in snapshot.skipped
            if each.process.pid in members
        ],
        postponed=sum(key.pid in members for key in snapshot.cost.postponed),
    )
