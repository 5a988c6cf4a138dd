# SPDX-License-Identifier: Apache-2.0

"""Replay one trace under any number of policies, side by side, in one pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from numad_py import loop
from numad_py.model import ProcessKey, Tick
from numad_py.roles import Policy
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.cost import Prices
from numad_py.sim.demand import Recording
from numad_py.sim.machine import ReplayedMachine
from numad_py.sim.oracle import Oracle
from numad_py.sim.score import Score, Scorer
from numad_py.sim.sight import Acuity

BASELINE = "hold"  # which moves nothing
PERFECT: Final[Mapping[str, Acuity]] = {}


@dataclass(frozen=True, eq=False)
class _Limits:
    """What a policy's moves cost, how long those of one tick may take, and how well it sees."""

    prices: Prices
    deadline_s: float | None
    acuity: Acuity | None


def replay(
    recorded: Iterable[Tick],
    policies: Mapping[str, Policy],
    prices: Prices,
    *,
    deadline_s: float | None = None,
    acuity: Mapping[str, Acuity] = PERFECT,
) -> Iterator[Mapping[str, Tick]]:
    """Yield for every recorded tick what each policy's own turn of the loop came to.

    Moves of one tick may take ``deadline_s``, or as long as the daemon's. All policies share each decoded tick, and what
    it demands. They see the machine as well as their ``acuity`` lets them, without one as it is; what is yielded tells
    how it is.
    """
    recording = Recording()
    loops = {
        name: _loop(_machine(recording, name, policy, _Limits(prices, deadline_s, acuity.get(name))), policy)
        for name, policy in policies.items()
    }
    for tick in recorded:
        recording.advance(tick)
        yield {name: next(turns) for name, turns in loops.items()}
    recording.end()


def scores(
    recorded: Iterable[Tick],
    policies: Mapping[str, Policy],
    prices: Prices,
    *,
    deadline_s: float | None = None,
    acuity: Mapping[str, Acuity] = PERFECT,
    watch: Callable[[Mapping[str, Tick]], None] | None = None,
) -> dict[str, Score]:
    """Replay a trace to its end and give each policy's figures; ``watch`` sees every turn, too.

    Where `BASELINE` is among the policies, they know what an oracle would have come to.
    """
    scorers, oracle = {name: Scorer(prices) for name in policies}, Oracle(prices)
    for turn in replay(recorded, policies, prices, deadline_s=deadline_s, acuity=acuity):
        for name, tick in turn.items():
            scorers[name].add(tick, _stalled_s(policies[name]))
        if BASELINE in turn:
            oracle.add(turn[BASELINE])
        if watch:
            watch(turn)
    found = {name: scorer.score for name, scorer in scorers.items()}
    if BASELINE not in policies:
        return found
    return {
        name: replace(score, least_s=oracle.modelled_s, least_anywhere_s=oracle.anywhere_s)
        for name, score in found.items()
    }


def _machine(recording: Recording, name: str, policy: Policy, within: _Limits) -> ReplayedMachine:
    """Give a machine of its own to a policy; a baseline has no daemon's sight and no daemon's deadline."""
    if isinstance(policy, Baseline):
        prices = within.prices if policy.call_ns is None else replace(within.prices, call_ns=policy.call_ns)
        within = _Limits(prices, policy.deadline_s, None)
    return ReplayedMachine(
        recording, within.prices, profile=name, deadline_s=within.deadline_s, acuity=within.acuity
    )


def _loop(machine: ReplayedMachine, policy: Policy) -> Iterator[Tick]:
    for tick in loop.ticks(machine, policy, machine, machine, period_s=0.0):  # the recording keeps the time
        yield replace(tick, snapshot=machine.truth)


def _stalled_s(policy: Policy) -> Mapping[ProcessKey, float]:
    return policy.stalled_s if isinstance(policy, Baseline) else {}
