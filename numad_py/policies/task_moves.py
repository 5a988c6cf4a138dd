# SPDX-License-Identifier: Apache-2.0

"""Tasks to their memory: let the threads of a process run on one node only, and have its memory follow there.

Problem: threads that nobody bound run now here, now there, so that no node is right for their memory; and memory that
has no room where its threads settled, or would pay too late, never comes to them.
Primitive: by node, what all threads of a process would wait there once what may move of its memory had come, too.
Application: who ran here and there for some looks goes where that pays best, or to the node of its GPUs where it has
any; as far as there are cores (`cores`). Who has more threads than any node has cores goes to a package, and what it uses
hard is spread over that alone. Where the threads that were bound to a node, or inherited that, became more
than its cores, those who have most get their other CPUs back.

CPU time of processes without a label, or with another profile, is not known: their cores count as free.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from numad_py import prices
from numad_py.model import Ending, Held, MoveTasks, Outcome, Process, ProcessKey, Reason, Refusal, Snapshot
from numad_py.policies.candidates import moving_ns_per_byte
from numad_py.policies.cores import Crowd, Place, Wanting, evenly, limits, placed, runnable
from numad_py.policies.homes import NO_EVIDENCE, SEVERAL
from numad_py.policies.ran import NEW, Ran
from numad_py.policies.wishes import MB, Weigh, Wish
from numad_py.topology import Bools, Floats, Ints, Topology

TURNS: Final = 2  # more than so many lately, and it wanders
NEARLY: Final = 0.9  # of the most that is saved anywhere: what is cheaper is better then
ROUNDING: Final = 1e-9  # of what is waited: to save no more is to save nothing
TOO_FULL_LOOKS: Final = 3  # in a row, before somebody gets other CPUs back


class Rules(Protocol):
    """What it needs of the parameters of `threshold`."""

    @property
    def fill_cores_share(self) -> float: ...
    @property
    def pays_within_s(self) -> float: ...


class Look(NamedTuple):
    """What is known at one look.

    ``rest`` is the snapshot without what jobs share; ``told`` are rows of processes of whose memory each part has a home
    of its own, and ``spread`` those whose memory is to be spread; ``pages`` is by row what memory alone would do.
    """

    whole: Snapshot
    rest: Snapshot
    home: Ints
    fresh: Bools
    period_s: Floats
    room_bytes: Ints
    told: Collection[int]
    spread: Collection[int]
    pages: Mapping[int, Wish]


class Decided(NamedTuple):
    """What threads should move, those that found no cores, and the rows of processes whose pages wait for their threads."""

    moves: tuple[MoveTasks, ...] = ()
    held: tuple[Held, ...] = ()
    waiting: tuple[int, ...] = ()


class TaskMoves:
    """Follows where processes run, and which of them were bound to which node."""

    def __init__(self, weigh: Weigh, rules: Rules) -> None:
        self._weigh, self._rules = weigh, rules
        self._known: dict[ProcessKey, Ran] = {}
        self._bound: dict[ProcessKey, Place] = {}
        self._heirs: dict[ProcessKey, Place] = {}
        self._refused: set[ProcessKey] = set()
        self._too_full: dict[Place, int] = {}
        self._notes: dict[ProcessKey, str] = {}
        self._node_ids: tuple[int, ...] = ()

    def decide(self, look: Look) -> Decided:
        snapshot, on, keys = look.whole, look.whole.topology, look.whole.keys
        if on.node_ids != self._node_ids:
            self._renumber(on)
        load = runnable(snapshot, look.period_s)
        self._follow(look, load)
        job = np.repeat(np.arange(len(snapshot.jobs)), [len(each.processes) for each in snapshot.jobs])
        known = [self._known[key] for key in keys]
        load = np.array([each.last for each in known]).reshape(load.shape)  # of who was not read anew, too
        usual = np.maximum(load, np.array([each.load for each in known]).reshape(load.shape))
        crowd = Crowd(np.array([each.threads for each in known]), usual, job)
        wanting = [
            _wanting(row, each, on)
            for row, each in enumerate(known)
            if look.fresh[row] and each.evidence.acting
        ]
        going = placed(wanting, crowd, on, self._rules.fill_cores_share)
        moves = tuple(self._move(keys[row], _ids(place, on)) for row, place in going.items())
        free = limits(on, self._rules.fill_cores_share) - usual.sum(axis=0)
        stay = [each for each in wanting if each.row not in going]
        held = tuple(
            _held(keys[each.row], each, known[each.row].threads, free[list(each.places[0])].sum())
            for each in stay
        )
        back = tuple(self._given_back(snapshot, load, look.fresh))
        self._notes = dict(self._noted(on, (*moves, *back), held))
        waiting = (
            row
            for row, key in enumerate(keys)
            if key not in self._refused and (row in going or self._is_waiting(key))
        )
        return Decided((*moves, *back), held, tuple(waiting))

    def review(self, move: MoveTasks, outcome: Outcome, on: Topology) -> bool:
        """See what became of a move; say whether a process was bound."""
        key, known = move.process, self._known.get(move.process)
        if outcome.ending is Ending.REFUSED:
            self._refused.add(key)
        if outcome.ending is not Ending.DONE or known is None:
            return False
        self._refused.discard(key)
        self._known[key] = known = known._replace(turns=0.0, evidence=NEW, options=())
        if move.reason is not Reason.TASKS_FOLLOW_MEMORY:  # it got others back
            self._bound.pop(key, None)
            self._heirs.pop(key, None)
            return False
        self._bound[key] = place = tuple(on.index_of[node] for node in move.nodes)
        self._known[key] = known._replace(load=evenly(float(known.load.sum()), place, on))
        return True

    def notes(self, key: ProcessKey) -> tuple[str, ...]:
        """Say what is to become of the threads of a process, if anything."""
        return (self._notes[key],) if key in self._notes else ()

    def _renumber(self, on: Topology) -> None:
        """Begin anew where nodes came or went, but for who is bound: places are positions."""
        before, self._node_ids = self._node_ids, on.node_ids
        for places in (self._bound, self._heirs):
            by_id = {key: [before[node] for node in place] for key, place in places.items()}
            places.clear()
            for key, ids in by_id.items():
                if all(id_ in on.index_of for id_ in ids):
                    places[key] = tuple(on.index_of[id_] for id_ in ids)
        self._known, self._too_full = {}, {}

    def _follow(self, look: Look, load: Floats) -> None:
        """See where everyone ran, and weigh who might be bound."""
        before, self._known = self._known, {}
        cores = look.whole.cpu_s / look.period_s[:, None]
        for job in look.whole.jobs:
            bound = {self._bound[each.key] for each in job.processes if each.key in self._bound}
            for key in (each.key for each in job.processes):
                row = look.whole.row_of[key]
                home, fresh, known = int(look.home[row]), look.fresh[row], before.get(key)
                if known is None:
                    threads = float(load[row].sum())
                    known = Ran(cores[row], load[row], load[row], home, threads, may_inherit=bool(bound))
                elif fresh:
                    known = known.after(cores[row], load[row], home)
                known = self._inherit(known, key, home, bound) if fresh else known
                self._known[key] = self._weighed(known, row, look) if fresh else known
        for places in (self._bound, self._heirs):
            for key in places.keys() - self._known.keys():
                del places[key]
        self._refused &= self._known.keys()

    def _inherit(self, known: Ran, key: ProcessKey, home: int, bound: Collection[Place]) -> Ran:
        """Take one that was born in a job beside ``bound`` processes, and runs on a node of theirs, for the child of one."""
        if key in self._heirs and home not in _homes_within(self._heirs[key]):
            del self._heirs[key]
            return known._replace(may_inherit=False)
        place = min((place for place in bound if home in place), key=len, default=None)
        if known.may_inherit and place:
            self._heirs[key] = place
        return known

    def _weighed(self, known: Ran, row: int, look: Look) -> Ran:
        process = look.whole.processes[row]
        might = process.key not in self._bound and row not in look.told and self._might_move(known, row, look)
        places = self._places(known, process, look.whole.topology) if might else ()
        alone = row not in look.spread or any(len(place) > 1 for place in places)
        options = self._options(known, row, places, look) if alone else ()
        if not options:
            return known._replace(evidence=NEW, options=())
        # What has to be seen for some looks is that it should be bound, not to which of these nodes.
        targets = tuple(sorted(node for each in options for node in each.targets))
        evidence = self._weigh(known.evidence, options[0]._replace(targets=targets))
        return known._replace(evidence=evidence, options=options)

    def _might_move(self, known: Ran, row: int, look: Look) -> bool:
        """Say whether it wanders; or has settled, and its memory will not come there."""
        home, pages = int(look.home[row]), look.pages.get(row)
        if home == SEVERAL or known.turns > TURNS:
            return True
        if home < 0 or pages is None:
            return False
        return pages.payback_s > self._rules.pays_within_s or pages.remote_bytes > look.room_bytes[home]

    def _places(self, known: Ran, process: Process, on: Topology) -> tuple[Place, ...]:
        """Give the places that it may be bound to: nodes, or packages where no node has cores enough for it."""
        allowed = [on.index_of[node] for node in on.running_on(process.nodes_allowed)]
        near = {device.node for device in on.devices if device.address in process.gpus}
        beside = [node for node in allowed if on.node_ids[node] in near] or allowed
        nodes = tuple((node,) for node in beside if len(allowed) > 1)
        if known.threads <= limits(on, self._rules.fill_cores_share)[beside].max(initial=0):
            return nodes
        packages = (tuple(node for node in package if node in allowed) for package in prices.packages(on))
        wide = [place for place in packages if len(place) > 1 and not {*place}.isdisjoint(beside)]
        return tuple(place for place in wide if len(place) < len(allowed)) if wide else nodes

    def _options(self, known: Ran, row: int, places: Sequence[Place], look: Look) -> tuple[Wish, ...]:
        """Give what is expected of each place where it would wait less than it does, the best first.

        To a node, what may move of its memory comes; in a package it stays where it lies.
        """
        on, process, own = look.whole.topology, look.whole.processes[row], look.rest.processes[row].regions
        held = process.regions.resident_bytes.sum(axis=0)
        every, used, ratios = max(int(held.sum()), 1), float(known.cores.sum()), prices.ratios(on)
        waited = float(known.cores @ ratios @ held) / every
        remote_share = 1 - float(known.cores @ held) / max(used * every, 1e-9)
        ns_per_byte = moving_ns_per_byte(own, own.movable)
        options = []
        for place in places:
            coming = np.zeros(len(on.nodes))
            if len(place) == 1:
                away = own.movable_bytes * on.may_leave * (np.arange(len(on.nodes)) != place[0])
                coming = away * min(1.0, look.room_bytes[place[0]] / max(int(away.sum()), 1))
            there = float(evenly(used, place, on) @ ratios @ (held - coming) + used * coming.sum()) / every
            wish = Wish(
                _ids(place, on),
                told=False,
                remote_bytes=int(remote_share * every),
                remote_share=remote_share,
                saving_ns_per_s=(waited - there) * 1e9 * prices.MEMORY_SHARE,
                cost_ns=float(coming.sum()) * ns_per_byte,
                confidence=1 - process.placement_error_share,
            )
            options += [wish] if there < (1 - ROUNDING) * waited else []
        return self._best_first(options)

    def _best_first(self, options: Sequence[Wish]) -> tuple[Wish, ...]:
        """Put those first that save nearly the most, the cheapest before the others; then what pays best."""
        nearly_ns = NEARLY * max((each.saving_ns_per_s for each in options), default=0.0)

        def rank(each: Wish) -> tuple[bool, float]:
            saves_less = each.saving_ns_per_s < nearly_ns
            saved_ns = self._rules.pays_within_s * each.saving_ns_per_s if saves_less else 0.0
            return saves_less, each.cost_ns - saved_ns

        return tuple(sorted(options, key=rank))

    def _given_back(self, snapshot: Snapshot, load: Floats, fresh: Bools) -> Iterator[MoveTasks]:
        """Let those run on several nodes again who have the most threads where too many were bound."""
        on, before, confined = snapshot.topology, self._too_full, self._heirs | self._bound
        wanted = {key: float(load[snapshot.row_of[key]].sum()) for key in confined}
        cores = {place: float(on.cores_by_node[list(place)].sum()) for place in confined.values()}
        around = {own: [place for place in cores if {*own} <= {*place}] for own in cores}
        threads, anew = dict.fromkeys(cores, 0.0), set[Place]()
        for key, own in confined.items():
            for place in around[own]:
                threads[place] += wanted[key]
                anew |= {place} if fresh[snapshot.row_of[key]] else set()
        too_full = (place for place in cores if threads[place] > cores[place] + 0.5)
        self._too_full = {place: before.get(place, 0) + (place in anew) for place in too_full}
        crowded = {place for place, looks in self._too_full.items() if looks >= TOO_FULL_LOOKS}
        for key in sorted(confined, key=wanted.__getitem__, reverse=True):
            own = confined[key]
            if any(place in crowded and threads[place] > cores[place] for place in around[own]):
                for place in around[own]:
                    threads[place] -= wanted[key]
                process = snapshot.processes[snapshot.row_of[key]]
                figures = {"threads": wanted[key], "cores": cores[own]}
                yield MoveTasks(key, on.running_on(process.nodes_allowed), Reason.SPREAD, figures)

    def _is_waiting(self, key: ProcessKey) -> bool:
        evidence = self._known[key].evidence
        return evidence.looks > 0 and not evidence.acting

    def _move(self, key: ProcessKey, nodes: tuple[int, ...]) -> MoveTasks:
        known = self._known[key]
        wish = next(each for each in known.options if each.targets == nodes)
        figures = {
            "threads": known.threads,
            "home_cpu_share": float(known.cores.max() / known.cores.sum()),
            "turns": known.turns,
            "remote_share": wish.remote_share,
            "remote_mb": wish.remote_bytes / MB,
            "saving_ns_per_s": wish.saving_ns_per_s,
            "cost_ns": wish.cost_ns,
            "confidence": wish.confidence,
            "payback_s": wish.payback_s,
            "looks": float(known.evidence.looks),
        }
        return MoveTasks(key, wish.targets, Reason.TASKS_FOLLOW_MEMORY, figures)

    def _noted(
        self, on: Topology, moves: Collection[MoveTasks], held: Collection[Held]
    ) -> Iterator[tuple[ProcessKey, str]]:
        for key, place in self._bound.items():
            yield key, f"its threads were bound to {_named(_ids(place, on))}"
        for key, known in self._known.items():
            if self._is_waiting(key):
                where = _named(known.options[0].targets)
                yield key, f"its threads should run on {where} alone, if that goes on"
        for each in held:
            yield (
                each.process,
                "its threads should run on one node or package alone, and none has enough cores free",
            )
        for move in moves:
            where, is_bound = _named(move.nodes), move.reason is Reason.TASKS_FOLLOW_MEMORY
            yield (
                move.process,
                f"its threads should run on {where} alone"
                if is_bound
                else f"too many threads were bound to its node: its own may run on {where} again",
            )


def _wanting(row: int, known: Ran, on: Topology) -> Wanting:
    places = tuple(tuple(on.index_of[node] for node in each.targets) for each in known.options)
    return Wanting(row, places, known.options[0].saving_ns_per_s)


def _held(key: ProcessKey, wanting: Wanting, threads: float, free: float) -> Held:
    figures = {
        "threads": threads,
        "cores_free": max(float(free), 0.0),
        "saving_ns_per_s": wanting.saving_ns_per_s,
    }
    return Held(key, 0, Refusal.NO_ROOM, figures)


def _homes_within(place: Place) -> tuple[int, ...]:
    """Give what the home of a process can be that was given the CPUs of a place."""
    return (NO_EVIDENCE, *place, *((SEVERAL,) if len(place) > 1 else ()))


def _ids(place: Place, on: Topology) -> tuple[int, ...]:
    return tuple(on.node_ids[node] for node in place)


def _named(nodes: Sequence[int]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {', '.join(map(str, nodes))}"
