# SPDX-License-Identifier: Apache-2.0

"""Replay one trace under any number of policies, side by side, in one pass."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from numad_py import loop
from numad_py.model import ProcessKey, Tick
from numad_py.roles import Policy
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.cost import Prices
from numad_py.sim.demand import Recording
from numad_py.sim.machine import ReplayedMachine
from numad_py.sim.oracle import Oracle
from numad_py.sim.score import Score, Scorer

BASELINE = "hold"  # which moves nothing
DEADLINE_S = 0.5  # of moving in one tick


def replay(
    recorded: Iterable[Tick],
    policies: Mapping[str, Policy],
    prices: Prices,
    *,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Mapping[str, Tick]]:
    """Yield for every recorded tick what each policy's own turn of the loop came to.

    All policies share each decoded tick, and what it demands.
    """
    recording = Recording()
    loops = {
        name: _loop(recording, name, policy, prices, deadline_s=deadline_s)
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
    deadline_s: float = DEADLINE_S,
    watch: Callable[[Mapping[str, Tick]], None] | None = None,
) -> dict[str, Score]:
    """Replay a trace to its end and give each policy's figures; ``watch`` sees every turn, too.

    Where `BASELINE` is among the policies, they know what an oracle would have come to.
    """
    scorers, oracle = {name: Scorer(prices) for name in policies}, Oracle(prices)
    for turn in replay(recorded, policies, prices, deadline_s=deadline_s):
        for name, tick in turn.items():
            scorers[name].add(tick, _stalled_s(policies[name]))
        if BASELINE in turn:
            oracle.add(turn[BASELINE])
        if watch:
            watch(turn)
    least_s = oracle.modelled_s if BASELINE in policies else None
    return {name: dataclasses.replace(scorer.score, least_s=least_s) for name, scorer in scorers.items()}


def _loop(
    recording: Recording, name: str, policy: Policy, prices: Prices, *, deadline_s: float
) -> Iterator[Tick]:
    if isinstance(policy, Baseline):
        deadline_s = policy.deadline_s
        prices = dataclasses.replace(prices, call_ns=policy.call_ns) if policy.call_ns is not None else prices
    machine = ReplayedMachine(recording, prices, profile=name, deadline_s=deadline_s)
    return loop.ticks(machine, policy, machine, machine, period_s=0.0)  # the recording keeps the time


def _stalled_s(policy: Policy) -> Mapping[ProcessKey, float]:
    return policy.stalled_s if isinstance(policy, Baseline) else {}
