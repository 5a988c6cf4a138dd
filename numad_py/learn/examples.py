# SPDX-License-Identifier: Apache-2.0

"""What candidates looked like to a daemon, and what each would really have saved.

Problem: what a move saves shows later, and elsewhere on machines whose costs are not the published ones.
Primitive: nothing is moved, and at each look what could have been is noted. Later it is known where the process ran, what
it held and how long it lived: with a machine's prices that says what the bytes would have saved on their target.
Application: a label is that saving over what `Candidates` predict, both over the horizon. It is counted until it had been
a loss for `NOTICED_S`, when a daemon would bring the bytes back, and is charged for that.

A process that a daemon moved while this was recorded shows what came of the move, and not what would have come of
none: from then on it is no example. What was withheld is. Where a recording has enough of both, and counters, its labels
are of the part that moving really took away (`withheld`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numad_py.learn import draws
from numad_py.learn.draws import Case
from numad_py.learn.withheld import Effect
from numad_py.model import Plan, ProcessKey, Snapshot, Tick
from numad_py.policies.candidates import Candidates
from numad_py.policies.features import NAMES, Histories
from numad_py.policies.threshold import Threshold
from numad_py.prices import move_ns_per_byte
from numad_py.sim import cost, replay
from numad_py.sim.cost import Prices
from numad_py.sim.sight import Acuity
from numad_py.topology import Columns, Floats, Ints, Topology

HORIZON_S: Final = 60.0
SHORTEST_S: Final = 20.0  # that looks may tell of it, towards the end of a trace or where they are rare
NOTICED_S: Final = 4.0
MOST: Final = 120  # examples of one case
TIMES: Final = (-1.0, 4.0)  # that a label is kept within: a ratio of small figures says little
LEAST_BYTES: Final = 4 << 20
LEAST_CONFIDENCE: Final = 0.05
_NAME: Final = "watched"


class _Candidate(NamedTuple):
    """One process that could have been moved at one look, and its features."""

    key: ProcessKey
    time_s: float
    target: int
    leaving: Ints
    predicted_ns: float  # in a second
    features: Floats


@dataclass(frozen=True, eq=False)
class Examples(Columns):
    """Columns by example. ``off`` is the label where all costs are off; machines and families are those of the case.

    Moving takes ``cost_ns`` as it is published, and really ``paid_ns``, where all costs are off.
    """

    features: Floats
    label: Floats
    off: Floats
    predicted_ns: Floats
    cost_ns: Floats
    paid_ns: Floats
    family: NDArray[np.str_]
    machine: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)


class _Watcher(Threshold):
    """Notes what could be moved, and moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._histories = Histories()
        self.noted: list[_Candidate] = []

    def decide(self, snapshot: Snapshot) -> Plan:
        super().decide(snapshot)
        return Plan()

    def _expected(self, offers: Candidates, snapshot: Snapshot, home: Ints, cores: Floats) -> Candidates:
        self._histories.look(snapshot, home, cores)
        rows = self._histories.rows(offers, snapshot, cores)
        predicted = offers.saving_ns_per_s(snapshot.topology) * offers.confidence
        likely = (offers.bytes_ >= LEAST_BYTES) & (offers.confidence >= LEAST_CONFIDENCE) & (predicted > 0)
        for at in np.flatnonzero(likely & (home[offers.process] >= 0)).tolist():
            key = snapshot.processes[offers.process[at]].key
            self.noted.append(
                _Candidate(
                    key,
                    snapshot.time_s,
                    int(offers.target[at]),
                    offers.leaving[at],
                    float(predicted[at]),
                    rows[at],
                )
            )
        return offers


class _Lives:
    """Follows where processes really ran and what they held, and who was moved while it was recorded."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.moved_s: dict[ProcessKey, float] = {}
        self._of: dict[ProcessKey, tuple[list[int], list[Floats]]] = {}

    def look(self, truth: Snapshot, recorded: Tick) -> None:
        elapsed_s = truth.time_s - self.times_s[-1] if self.times_s else np.inf
        cores = truth.cpu_s / elapsed_s
        held = [int(each.regions.resident_bytes.sum()) for each in truth.processes]
        for key, at in truth.row_of.items():
            looks, rows = self._of.setdefault(key, ([], []))
            looks.append(len(self.times_s))
            rows.append(np.append(cores[at], held[at]))
        self.times_s.append(truth.time_s)
        for move, outcome in zip(recorded.plan.moves, recorded.outcomes, strict=False):
            if outcome.moved_bytes:
                self.moved_s.setdefault(move.process, truth.time_s)

    def of(self, key: ProcessKey) -> tuple[Floats, Floats]:
        """Give by look the cores of each node that it ran on, and what it held: nothing where it was not there."""
        looks, rows = self._of[key]
        table = np.zeros((len(self.times_s), len(rows[0])))
        table[looks] = rows
        return table[:, :-1], table[:, -1]


def of(case: Case) -> Examples:
    """Play a case once, and give its examples on each of its machines."""
    header, ticks = draws.begun(case)
    watcher, lives = _Watcher(), _Lives()
    on = header.topology
    acuity = {_NAME: Acuity(seed=case.draw + 1)} if case.draw % 3 else replay.PERFECT
    for recorded, turn in _played(ticks, watcher, cost.default_prices(on), acuity):
        lives.look(turn[_NAME].snapshot, recorded)
    chosen = _chosen(case, watcher.noted, lives)
    effect = effect_of(case)
    gone_share = effect.gone_share if effect else 1.0
    parts = [
        _priced(case, machine, chosen, lives, on, gone_share)
        for machine in draws.machines(case, len(on.nodes))
        if chosen
    ]
    return Examples.joined([_none(), *parts])


def effect_of(case: Case) -> Effect | None:
    """Compare what was moved and what was withheld, where a case is a recording of both."""
    return Effect.of(draws.begun(case)[1]) if case.is_trace else None


def _played(
    ticks: Iterable[Tick], watcher: _Watcher, prices: Prices, acuity: Mapping[str, Acuity]
) -> Iterable[tuple[Tick, Mapping[str, Tick]]]:
    """Replay, and give every recorded tick beside its turn."""
    last: list[Tick] = []

    def noting() -> Iterable[Tick]:
        for tick in ticks:
            last[:] = [tick]
            yield tick

    for turn in replay.replay(noting(), {_NAME: watcher}, prices, acuity=acuity):
        yield last[0], turn


def _chosen(case: Case, noted: Sequence[_Candidate], lives: _Lives) -> list[_Candidate]:
    times_s, begun_s = np.array(lives.times_s), np.array([each.time_s for each in noted])
    last = np.searchsorted(times_s, begun_s + HORIZON_S, side="right") - 1
    usable = [
        each
        for each, followed_s in zip(noted, (times_s[last] - begun_s).tolist(), strict=True)
        if followed_s >= SHORTEST_S and each.time_s <= lives.moved_s.get(each.key, np.inf)
    ]
    return Random(case.name).sample(usable, min(MOST, len(usable)))  # noqa: S311 - a draw, not a secret


def _priced(
    case: Case, machine: str, chosen: Sequence[_Candidate], lives: _Lives, on: Topology, gone_share: float
) -> Examples:
    around, off = draws.prices(case, machine, on)
    times_s = np.array(lives.times_s)
    found = []
    for each in chosen:
        cores, held = lives.of(each.key)
        later = (times_s > each.time_s) & (times_s <= each.time_s + HORIZON_S)
        begun = int(np.searchsorted(times_s, each.time_s))
        elapsed_s = np.diff(times_s[begun : begun + 1 + later.sum()])
        window = cores[later], held[later], elapsed_s
        labels = [
            saved_ns(each.leaving, each.target, *window, prices, on.page_bytes) for prices in (around, off)
        ]
        cost_ns = float(each.leaving.sum() * move_ns_per_byte(on.page_bytes))
        found.append(
            (
                *(gone_share * label / (each.predicted_ns * elapsed_s.sum()) for label in labels),
                each.predicted_ns,
                cost_ns,
                _moving_ns(each.leaving, off, on.page_bytes),
            )
        )
    label, off_label, *costs = np.array(found).T
    features = np.array([each.features for each in chosen])
    names = (np.full(len(chosen), name) for name in (case.family, machine))
    return Examples(features, np.clip(label, *TIMES), np.clip(off_label, *TIMES), *costs, *names)


def saved_ns(
    leaving: Ints,
    target: int,
    cores: Floats,
    held: Floats,
    elapsed_s: Floats,
    prices: Prices,
    page_bytes: int,
) -> float:
    """Give what bytes would have saved on their target from look to look, until they would have been brought back."""
    ratio = prices.latency_ns / np.diag(prices.latency_ns)[:, None]
    waited = cores @ ratio  # by look and node: what would be waited with all memory there
    share = leaving / np.maximum(held, leaving.sum())[:, None]
    gained = (share * (waited - waited[:, [target]])).sum(axis=1) * prices.memory_share * elapsed_s * 1e9
    lost_s = 0.0
    for at, (gain, passed_s) in enumerate(zip(gained.tolist(), elapsed_s.tolist(), strict=True)):
        lost_s = lost_s + passed_s if gain < 0 else 0.0
        if lost_s >= NOTICED_S:
            return float(gained[: at + 1].sum()) - _moving_ns(leaving, prices, page_bytes)
    return float(gained.sum())


def _moving_ns(leaving: Ints, prices: Prices, page_bytes: int) -> float:
    return float(leaving.sum() / page_bytes * prices.page_ns(np.array([page_bytes]))[0])


def _none() -> Examples:
    nothing, unnamed = np.zeros(0), np.zeros(0, np.str_)
    features = np.zeros((0, len(NAMES)))
    return Examples(features, nothing, nothing, nothing, nothing, nothing, unnamed, unnamed)
