# SPDX-License-Identifier: Apache-2.0

"""Memory follows CPU: bring pages to the node whose CPUs use them.

Problem: a process was bound, or moved by the scheduler, after it had touched
its memory, and reaches over the interconnect for it ever since.
Primitive: its *home*, the node that has nearly all of its CPU time, and its
*remote share*, the part of its movable bytes on other nodes. Where
its threads run on several nodes, and an investigation saw which of them use
what, each part of its memory has a home of its own, and the remote share is
that of its accesses (`shards`); where nothing is told, what is used harder than
one node's memory can serve is remote as far as it lies unevenly (`spreading`).
Application: once the remote share was above one threshold for some looks in a
row, and moving pays for itself soon (`candidates`), move until it is below a
lower one: what saves most for each byte first, as far as nodes have room that
nobody will need (`room`). A process that hardly ran gives no evidence, and its
count stands still; one that ran here and there begins anew, and has to be
steady for the longer. One that never ran elsewhere, and pays sooner than another
look would come, is not waited for. Memory of a GPU is neither counted nor touched, and
no more is what the kernel demotes to nodes without CPUs. What processes of a job share is left to `shared`. Where tasks
may be moved, those of who has no home, or whose memory will not come there, are bound to a node first (`task_moves`).
Where idle memory makes room, what found none on its node has some made there (`idle`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from numad_py.model import (
    Accesses,
    Compared,
    Decision,
    Ending,
    Explanation,
    Held,
    MovePages,
    Outcome,
    Plan,
    ProcessKey,
    Refusal,
    Regions,
    Snapshot,
    Tick,
)
from numad_py.policies import candidates, shards, spreading
from numad_py.policies.candidates import Candidates
from numad_py.policies.homes import NO_EVIDENCE, POSSIBLE_SHARE, SEVERAL, Readings, homes
from numad_py.policies.idle import IdleMemory
from numad_py.policies.room import Room
from numad_py.policies.shards import Shards
from numad_py.policies.shared import SharedMemory
from numad_py.policies.task_moves import Decided, Look, TaskMoves
from numad_py.policies.wishes import MB, UNKNOWN, Evidence, Seen, Wish, apart, bring, figures_of, wishes
from numad_py.roles import Policy
from numad_py.topology import Bools, Floats, Ints


@dataclass(frozen=True)
class ThresholdParameters:
    """When memory should follow. Shares are 0 to 1; MB = 2^20 bytes."""

    remote_share_above: float = 0.10
    remote_share_below: float = 0.02
    home_cpu_share_above: float = 0.75
    patience: int = 2
    at_once_within_s: float = 2.0
    least_remote_mb: float = 4.0
    least_cpu_s: float = 0.05
    pays_within_s: float = 60.0
    room_for_s: float = 10.0
    fill_cores_share: float = 0.9
    makes_room_after_s: float = 0.0

    def __post_init__(self) -> None:
        shares = ("remote_share_above", "remote_share_below", "home_cpu_share_above", "fill_cores_share")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: a share is between 0 and 1")
        if self.remote_share_below > self.remote_share_above:
            raise ValueError("remote_share_below: must not be over remote_share_above")
        if self.patience < 1:
            raise ValueError("patience: at least one look is needed")
        for name in ("at_once_within_s", "pays_within_s", "room_for_s", "makes_room_after_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")


_LIMITS_OF_USE: Final = {"cpu_s": "least_cpu_s", "home_cpu_share": "home_cpu_share_above"}
_LIMITS: Final = {
    "remote_share": "remote_share_above",
    "remote_mb": "least_remote_mb",
    "payback_s": "pays_within_s",
}
_THERE_AND_BACK: Final = 2  # what comes and what makes room for it, both of which take a while
FORGETS: Final = 0.8  # of its restlessness, that a process keeps from look to look


class Threshold(Policy):
    """Moves memory home once a process has been mostly remote for a while; with ``tasks`` it may bind threads, too."""

    def __init__(self, parameters: ThresholdParameters | None = None, *, tasks: bool = False) -> None:
        self.parameters = parameters or ThresholdParameters()
        self._evidence: dict[ProcessKey, Evidence] = {}
        self._seen: dict[ProcessKey, Seen] = {}
        self._told: dict[ProcessKey, Accesses] = {}
        self._asked: Counter[ProcessKey] = Counter()
        self._readings, self._room = Readings(), Room()
        self._shared = SharedMemory(
            heat_share_above=self.parameters.home_cpu_share_above,
            patience=self.parameters.patience,
            least_mb=self.parameters.least_remote_mb,
            least_cpu_s=self.parameters.least_cpu_s,
            pays_within_s=self.parameters.pays_within_s,
            weigh=self._weigh,
        )
        makes_room_after_s = self.parameters.makes_room_after_s
        self._idle = (
            IdleMemory(makes_room_after_s, self.parameters.least_remote_mb) if makes_room_after_s else None
        )
        self._tasks = TaskMoves(self._weigh, self.parameters) if tasks else None
        self._computing: set[int] = set()
        self._short = Counter[ProcessKey]()  # of room, for what was asked at the last look
        self._refused: set[ProcessKey] = set()
        self._looked: tuple[Snapshot, Snapshot] | None = None  # what was seen, and without what jobs share
        self._regions: list[Regions] = []  # of the processes of that look

    def decide(self, snapshot: Snapshot) -> Plan:
        rules, on = self.parameters, snapshot.topology
        room_bytes = self._room.look(snapshot, rules.room_for_s)
        fresh, period_s = self._readings.look(snapshot)
        self._computing = spreading.computing(snapshot.jobs, self._computing)
        if not self._is_news(snapshot, fresh):
            self._asked, self._looked = Counter(), (snapshot, snapshot)
            return Plan()
        home = homes(
            snapshot, fresh, period_s, least_cpu_s=rules.least_cpu_s, share_above=rules.home_cpu_share_above
        )
        cores = snapshot.cpu_s / period_s[:, None]
        if self._idle:
            self._idle.look(snapshot, fresh, cores)
        shared_moves, rest = self._shared.decide(
            snapshot, np.maximum(home, NO_EVIDENCE), cores, fresh, self._computing
        )
        self._looked, snapshot = (snapshot, rest), rest
        parts = dict(self._shards(snapshot, home))
        offers = Candidates.joined(
            [
                candidates.whole(snapshot, home, cores),
                *(shards.offer(row, shard, cores[row], on) for row, shard in parts.items()),
            ]
        )
        offers = self._expected(offers, snapshot, home, cores)
        spread = spreading.wishes(snapshot, home, cores, parts, self._computing)
        wished = wishes(offers, parts, on) | spread
        self._see(snapshot, fresh, cores, wished)
        self._evidence = {key: self._evidence.get(key, UNKNOWN) for key in snapshot.keys}
        for key in (snapshot.keys[row] for row in np.flatnonzero(home != NO_EVIDENCE).tolist()):
            self._evidence[key] = self._weigh(self._evidence[key], self._seen[key].wish)
        acting = np.array(
            [self._evidence[snapshot.keys[row]].acting for row in offers.process.tolist()], bool
        )
        tasks = Decided()
        if self._tasks:
            pages = {row: wish for row, wish in wished.items() if home[row] >= 0}
            look = Look(*self._looked, home, fresh, period_s, room_bytes, parts, spread, pages)
            tasks = self._tasks.decide(look)
            acting &= ~np.isin(offers.process, tasks.waiting)
            spread = {row: wish for row, wish in spread.items() if row not in tasks.waiting}
        plan = self._plan(snapshot, offers.take(acting), parts, room_bytes)
        return Plan(
            (*plan.moves, *self._spread(snapshot, spread), *shared_moves),
            (*plan.held, *tasks.held),
            tasks.moves,
        )

    def _is_news(self, snapshot: Snapshot, fresh: Bools) -> bool:
        """Say whether it tells anything that the last look did not; time alone decides on nothing but what is shared."""
        before, self._regions = self._regions, [process.regions for process in snapshot.processes]
        told = any(process.accesses for process in snapshot.processes)
        return told or bool(fresh.any()) or self._regions != before or self._shared.is_any

    def review(self, tick: Tick) -> None:
        """Forget what an investigation told once all of it lies where it belongs: page counts will not say so."""
        self._shared.review(tick)
        for task_move, outcome in zip(tick.plan.task_moves, tick.task_outcomes, strict=True):
            if self._tasks and self._tasks.review(task_move, outcome, tick.snapshot.topology):
                self._evidence[task_move.process] = UNKNOWN  # who is bound wanders no more
        own = [
            (move, outcome)
            for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True)
            if not move.among
        ]
        done = Counter(move.process for move, outcome in own if outcome.ending is Ending.DONE)
        for key in [key for key in self._told if done[key] and done[key] == self._asked[key]]:
            del self._told[key]
        if self._asked:
            self._refused = self._asked.keys() - {
                move.process for move, outcome in own if _may_go_on(outcome)
            }
            self._refused -= (_held_for_room(tick.plan.held) - self._short).keys()

    def explain(self, key: ProcessKey) -> Explanation | None:
        if self._looked is None or key not in self._seen:
            return None
        seen, known, rules = self._seen[key], self._evidence[key], self.parameters
        figures, wish, notes = figures_of(seen, known.looks), seen.wish, apart(key, *self._looked)
        notes += self._idle.notes(key) if self._idle else ()
        notes += self._tasks.notes(key) if self._tasks else ()
        if wish is None:
            return Explanation(Decision.NO_EVIDENCE, self._beside(figures, _LIMITS_OF_USE), notes=notes)
        going_on = known.acting and wish.remote_share <= rules.remote_share_above
        limits = {**self._limits(wish), **({"remote_share": "remote_share_below"} if going_on else {})}
        patience = self._patience(known.restless, wish)
        looks = Compared("looks", known.looks, "patience", patience)
        decision = Decision.MOVE if known.acting else Decision.WAIT if self._is_worth(wish) else Decision.STAY
        return Explanation(
            decision,
            (*self._beside(figures, ({} if wish.told else _LIMITS_OF_USE) | limits), looks),
            targets=wish.targets,
            more_looks=patience - known.looks if decision is Decision.WAIT else 0,
            notes=notes,
        )

    def _beside(self, figures: Mapping[str, float], limits: Mapping[str, str]) -> tuple[Compared, ...]:
        rules, node_cpu_share = self.parameters, figures["node_cpu_share"]
        compared = [
            Compared(name, figures[name], limit, getattr(rules, limit)) for name, limit in limits.items()
        ]
        if node_cpu_share > POSSIBLE_SHARE:
            compared.append(Compared("node_cpu_share", node_cpu_share, "possible_share", POSSIBLE_SHARE))
        return tuple(compared)

    def _shards(self, snapshot: Snapshot, home: Ints) -> Iterator[tuple[int, Shards]]:
        """Give by row the parts of processes of which was told who uses what, where they have no single home."""
        told = ((each.key, each.accesses or self._told.get(each.key)) for each in snapshot.processes)
        self._told = {key: accesses for key, accesses in told if accesses}
        share_above = self.parameters.home_cpu_share_above
        for key, accesses in self._told.items():
            row = snapshot.row_of[key]
            if home[row] == SEVERAL:
                process = snapshot.processes[row]
                parts = shards.parts(process, accesses, snapshot.topology, home_share_above=share_above)
                if parts:
                    yield row, parts

    def _see(self, snapshot: Snapshot, fresh: Bools, cores: Floats, wishes: Mapping[int, Wish]) -> None:
        busiest_share = (cores / np.maximum(snapshot.topology.cpus_by_node, 1)).max(axis=1, initial=0.0)
        rows = zip(snapshot.keys, fresh.tolist(), snapshot.cpu_s, busiest_share.tolist(), strict=True)
        before = self._seen
        self._seen = {
            key: Seen(cpu_s, busiest, wishes.get(row)) if anew else before[key]
            for row, (key, anew, cpu_s, busiest) in enumerate(rows)
        }

    def _weigh(self, known: Evidence, wish: Wish | None) -> Evidence:
        rules, restless = self.parameters, FORGETS * known.restless
        if wish is None:
            return Evidence(restless=restless + 1)
        looks, acting = known.looks, known.acting
        if wish.targets != known.targets:
            looks, acting, restless = 0, False, restless + bool(known.targets)
        if acting:
            acting = wish.remote_share > rules.remote_share_below
        else:
            looks = looks + 1 if self._is_worth(wish) else 0
            acting = looks >= self._patience(restless, wish)
        return Evidence(wish.targets, looks, acting, restless)

    def _is_worth(self, wish: Wish) -> bool:
        rules = self.parameters
        much = (
            wish.remote_share > rules.remote_share_above and wish.remote_bytes >= rules.least_remote_mb * MB
        )
        return much and wish.payback_s <= rules.pays_within_s

    def _expected(self, offers: Candidates, snapshot: Snapshot, home: Ints, cores: Floats) -> Candidates:
        """Give what is expected of each candidate where that is known better than prices tell."""
        return offers

    def _limits(self, wish: Wish) -> Mapping[str, str]:
        return _LIMITS

    def _patience(self, restless: float, wish: Wish) -> int:
        rules = self.parameters
        at_once = not restless and wish.payback_s <= rules.at_once_within_s
        return 1 if at_once else rules.patience + int(restless)

    def _plan(
        self, snapshot: Snapshot, offers: Candidates, parts: Mapping[int, Shards], room_bytes: Ints
    ) -> Plan:
        """Wish for what there is room for, what saves most for each byte first."""
        on = snapshot.topology
        worth = offers.saving_ns_per_s(on) / np.maximum(offers.bytes_, 1)
        may_go = self._may_go(snapshot, offers)  # who may not takes no room from those who may
        wanted = candidates.chosen(offers.leaving * may_go[:, None], offers.target, worth, room_bytes)
        if not may_go.all():
            alone = candidates.chosen(offers.leaving, offers.target, worth, room_bytes)
            wanted = np.where(may_go, wanted, alone)
        moves, held = [], []
        for at in np.argsort(-worth, kind="stable").tolist():
            row, bytes_ = int(offers.process[at]), int(wanted[at])
            process = snapshot.processes[row]
            figures = self._figures(process.key)
            if bytes_ < offers.bytes_[at]:
                held.append(Held(process.key, int(offers.bytes_[at]) - bytes_, Refusal.NO_ROOM, figures))
            if bytes_:
                move = bring(process, parts.get(row), offers.take(np.array([at])), bytes_, on)
                moves.append(replace(move, figures=figures))
        self._asked, self._short = Counter(move.process for move in moves), _held_for_room(held)
        if self._idle:
            saved_ns = self.parameters.pays_within_s * worth * offers.confidence
            pays = saved_ns > _THERE_AND_BACK * offers.ns_per_byte
            short = np.bincount(offers.target, (offers.bytes_ - wanted) * pays, len(on.nodes))
            moves += self._idle.make_room(snapshot, short.astype(np.int64), room_bytes)
        return Plan(tuple(moves), tuple(held))

    def _may_go(self, snapshot: Snapshot, offers: Candidates) -> Bools:
        """Say of each candidate whether its cpuset allows the target, and the guard allowed as much at the last look."""
        ids, processes = snapshot.topology.node_ids, snapshot.processes
        rows = [
            (processes[row], ids[target])
            for row, target in zip(offers.process.tolist(), offers.target.tolist(), strict=True)
        ]
        return np.array(
            [target in each.nodes_allowed and each.key not in self._refused for each, target in rows], bool
        )

    def _spread(self, snapshot: Snapshot, wanted: Mapping[int, Wish]) -> Iterator[MovePages]:
        for row, wish in wanted.items():
            process = snapshot.processes[row]
            if self._evidence[process.key].acting and wish.remote_bytes:
                move = spreading.move(process, process.regions.movable, wish, snapshot.topology)
                yield replace(move, figures=self._figures(process.key))

    def _figures(self, key: ProcessKey) -> dict[str, float]:
        return figures_of(self._seen[key], self._evidence[key].looks)


def _may_go_on(outcome: Outcome) -> bool:
    return bool(outcome.moved_bytes) or outcome.ending is Ending.DRY_RUN


def _held_for_room(held: Iterable[Held]) -> Counter[ProcessKey]:
    """Count by process what was held back for the lack of room or of time, and may go soon."""
    return Counter(each.process for each in held if each.why in (Refusal.NO_ROOM, Refusal.RATE))
