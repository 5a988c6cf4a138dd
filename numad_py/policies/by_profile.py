# SPDX-License-Identifier: Apache-2.0

"""Give every job to the policy that its label names."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from numad_py.model import Explanation, Plan, ProcessKey, Snapshot, Tick, Waits
from numad_py.roles import Policy


class ByProfile(Policy):
    """A policy made of one policy per profile name.

    Each sees only its own jobs, and room that earlier ones have not planned to
    fill. A job whose profile has no policy is left alone.
    """

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = policies
        self._asked: list[tuple[Policy, Snapshot, Plan]] = []

    def decide(self, snapshot: Snapshot) -> Plan:
        self._asked = []
        for name, policy in self._policies.items():
            jobs = tuple(job for job in snapshot.jobs if job.profile == name)
            # The very same where all are its own: columns that one has made of it serve the next.
            own = snapshot if len(jobs) == len(snapshot.jobs) else replace(snapshot, jobs=jobs)
            plan = policy.decide(own)
            self._asked.append((policy, own, plan))
            snapshot = _without_room_for(plan, snapshot) if plan.moves else snapshot
        return Plan(
            tuple(move for _, _, plan in self._asked for move in plan.moves),
            tuple(held for _, _, plan in self._asked for held in plan.held),
            tuple(move for _, _, plan in self._asked for move in plan.task_moves),
            tuple(judged for _, _, plan in self._asked for judged in plan.judged),
        )

    def review(self, tick: Tick) -> None:
        outcomes, task_outcomes = iter(tick.outcomes), iter(tick.task_outcomes)
        for policy, snapshot, plan in self._asked:
            own = tuple(islice(outcomes, len(plan.moves)))
            policy.review(Tick(snapshot, plan, own, tuple(islice(task_outcomes, len(plan.task_moves)))))

    def waits(self) -> Waits:
        return sum((policy.waits() for policy in self._policies.values()), Waits())

    def recall(self, waits: Waits) -> None:
        for policy in self._policies.values():  # each forgets whom it never sees
            policy.recall(waits)

    def explain(self, key: ProcessKey) -> Explanation | None:
        asked = (policy.explain(key) for policy, own, _ in self._asked if key in own.row_of)
        return next(asked, None)


def _without_room_for(plan: Plan, snapshot: Snapshot) -> Snapshot:
    free_bytes = snapshot.memory.free_bytes.copy()
    for move in plan.moves:
        for target in move.targets:
            free_bytes[snapshot.topology.index_of[target]] -= move.limit_bytes // len(move.targets)
    return replace(snapshot, memory=replace(snapshot.memory, free_bytes=free_bytes))
