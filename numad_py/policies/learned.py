# SPDX-License-Identifier: Apache-2.0

"""Memory follows CPU where a model expects that to pay: what `threshold` weighs by rules, weighed by what was learned.

Problem: no fixed patience is right for all. Who has just settled should be followed at once, a wanderer never.
Primitive: a model, trained in simulators, says of each candidate how many times the saving that prices predict will be
had within its horizon: less of who goes away, or back, or ends.
Application: what will pay for itself soon, as the model expects, moves at once; and so does what never ran elsewhere and
pays, by prices, before the model could be proved wrong. The choice among candidates, what is shared, and what goes on are
`threshold`'s. Without a model, and outside its bounds, so are the rules.

A seeded share of jobs can be withheld: they stay as they are and are marked, so that what moving saves can be
learned from the others beside them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from numad_py.model import Explanation, Held, Job, Plan, ProcessKey, Refusal, Snapshot
from numad_py.policies.candidates import Candidates
from numad_py.policies.features import NAMES, Histories
from numad_py.policies.threshold import Threshold, ThresholdParameters
from numad_py.policies.trees import Trees
from numad_py.policies.wishes import MB, Wish
from numad_py.topology import Bools, Floats, Ints

# Of the predicted saving, that a model is not believed of who was elsewhere: what it errs by where nothing is to be had.
MARGIN: Final = 0.25
_TURNS, _PAYBACK_S = NAMES.index("turns"), NAMES.index("payback_s")


@dataclass(frozen=True)
class LearnedParameters(ThresholdParameters):
    """Which model, and the rules where it has no answer; ``model`` is a path, or a name beside the profiles."""

    model: str = "model.json"
    withheld_share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.withheld_share <= 1:
            raise ValueError("withheld_share: a share is between 0 and 1")


class Learned(Threshold):
    """Moves memory home where a model expects that to pay; instead of one, it takes a sentence that says why there is none."""

    def __init__(
        self, parameters: LearnedParameters | None = None, model: Trees | str = "no model was given"
    ) -> None:
        self._own = parameters or LearnedParameters()
        super().__init__(self._own)
        self._model = model
        self._histories = Histories()

    def decide(self, snapshot: Snapshot) -> Plan:
        plan = super().decide(snapshot)
        if not self._own.withheld_share:
            return plan
        out = self._withheld(snapshot)
        held = (
            Held(move.process, move.limit_bytes, Refusal.WITHHELD, move.figures)
            for move in plan.moves
            if move.process in out
        )
        moves = tuple(move for move in plan.moves if move.process not in out)
        return replace(plan, moves=moves, held=(*plan.held, *held))

    def explain(self, key: ProcessKey) -> Explanation | None:
        told = super().explain(key)
        wish = self._seen[key].wish if told else None
        if told is None or wish is None:
            return told
        if isinstance(self._model, str):
            return replace(told, notes=(*told.notes, f"weighed by the rules of threshold: {self._model}"))
        if not wish.learned:
            note = "weighed by the rules of threshold: the model knows nothing like it"
            return replace(told, notes=(*told.notes, note))
        return replace(told, notes=(*told.notes, "weighed by the model: saving_ns_per_s is what it expects"))

    def _expected(self, offers: Candidates, snapshot: Snapshot, home: Ints, cores: Floats) -> Candidates:
        if isinstance(self._model, str):
            return offers
        self._histories.look(snapshot, home, cores)
        rows = self._histories.rows(offers, snapshot, cores)
        steady, payback_s = rows[:, _TURNS] == 0, rows[:, _PAYBACK_S]
        times = np.maximum(self._model.predicted(rows) - np.where(steady, 0.0, MARGIN), 0.0)
        at_once = steady & (payback_s <= self.parameters.at_once_within_s) & np.isfinite(times)
        times[at_once] = np.maximum(times[at_once], 1.0)
        times[home[offers.process] < 0] = np.nan  # parts of memory, which no model was trained on
        return replace(offers, times=times)

    def _is_worth(self, wish: Wish) -> bool:
        if not wish.learned:
            return super()._is_worth(wish)
        rules = self.parameters
        return wish.remote_bytes >= rules.least_remote_mb * MB and wish.payback_s <= rules.pays_within_s

    def _patience(self, restless: float, wish: Wish) -> int:
        return 1 if wish.learned else super()._patience(restless, wish)

    def _limits(self, wish: Wish) -> Mapping[str, str]:
        limits = super()._limits(wish)
        return {name: limits[name] for name in limits if not wish.learned or name != "remote_share"}

    def _may_go(self, snapshot: Snapshot, offers: Candidates) -> Bools:
        out = self._withheld(snapshot)
        goes = np.array([snapshot.keys[row] not in out for row in offers.process.tolist()], bool)
        both: Bools = goes & super()._may_go(snapshot, offers)
        return both

    def _withheld(self, snapshot: Snapshot) -> set[ProcessKey]:
        """Give the processes of jobs that were drawn."""
        drawn = (job for job in snapshot.jobs if self._own.withheld_share and self._is_withheld(job))
        return {each.key for job in drawn for each in job.processes}

    def _is_withheld(self, job: Job) -> bool:
        drawn = hashlib.sha256(str(job.cgroup_id).encode()).digest()
        return int.from_bytes(drawn[:8]) < self._own.withheld_share * 2**64
