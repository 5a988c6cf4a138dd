# SPDX-License-Identifier: Apache-2.0

"""Replay one trace under any number of policies, side by side, in one pass."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from numad_py import loop
from numad_py.model import Tick
from numad_py.roles import Policy
from numad_py.sim.cost import Prices
from numad_py.sim.demand import Recording
from numad_py.sim.machine import ReplayedMachine
from numad_py.sim.oracle import Oracle
from numad_py.sim.score import Score, Scorer
from numad_py.sim.sight import Acuity

BASELINE = "hold"  # which moves nothing
DEADLINE_S = 0.5  # of moving in one tick


def replay(
    recorded: Iterable[Tick],
    policies: Mapping[str, Policy],
    prices: Prices,
    *,
    deadline_s: float = DEADLINE_S,
    acuity: Acuity | None = None,
) -> Iterator[Mapping[str, Tick]]:
    """Yield for every recorded tick what each policy's own turn of the loop came to.

    All policies share each decoded tick, and what it demands. They see the machine as well as ``acuity`` lets them,
    without it as it is; what is yielded tells how it is.
    """
    recording = Recording()
    loops = {
        name: _loop(
            ReplayedMachine(recording, prices, profile=name, deadline_s=deadline_s, acuity=acuity), policy
        )
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
    acuity: Acuity | None = None,
    watch: Callable[[Mapping[str, Tick]], None] | None = None,
) -> dict[str, Score]:
    """Replay a trace to its end and give each policy's figures; ``watch`` sees every turn, too.

    Where `BASELINE` is among the policies, they know what an oracle would have come to.
    """
    scorers, oracle = {name: Scorer(prices) for name in policies}, Oracle(prices)
    for turn in replay(recorded, policies, prices, deadline_s=deadline_s, acuity=acuity):
        for name, tick in turn.items():
            scorers[name].add(tick)
        if BASELINE in turn:
            oracle.add(turn[BASELINE])
        if watch:
            watch(turn)
    found = {name: scorer.score for name, scorer in scorers.items()}
    if BASELINE not in policies:
        return found
    return {
        name: dataclasses.replace(score, least_s=oracle.modelled_s(tasks=score.task_moves > 0))
        for name, score in found.items()
    }


def _loop(machine: ReplayedMachine, policy: Policy) -> Iterator[Tick]:
    for tick in loop.ticks(machine, policy, machine, machine, period_s=0.0):  # the recording keeps the time
        yield dataclasses.replace(tick, snapshot=machine.truth)
