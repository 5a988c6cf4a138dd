# SPDX-License-Identifier: Apache-2.0

"""Jobs made up at random, of kinds that scenarios tell of: so many lengths of stay and life that none is special.

A kind has the name of a scenario where there is one like it, since both are of one family, and in one fold.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import numpy as np

from numad_py.sim.script import Group, Growth, Machine, Memory, Phase, Scenario, ScriptedJob

FOLDER: Final = "made"
CPUS: Final = 16
NODE_MB: Final = 1 << 18
LENGTH_S: Final = 240.0
_Kind = Callable[[Random, int], Group]


def scenario(kind: str, random: Random) -> Scenario:
    """Make a machine of two nodes or four, with one job of that kind to six."""
    nodes = random.choice((2, 2, 4))
    distances = tuple(tuple(10 if a == b else 21 for b in range(nodes)) for a in range(nodes))
    machine = Machine((CPUS,) * nodes, (NODE_MB,) * nodes, (1024,) * nodes, distances)
    jobs = tuple(
        ScriptedJob(f"{kind}-{number}", (KINDS[kind](random, nodes),))
        for number in range(random.randint(1, 6))
    )
    return Scenario(
        f"made up: {kind}", "nothing", machine, jobs, (), length_s=LENGTH_S, seed=random.randrange(1 << 30)
    )


def _log(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(*np.log((low, high)))))


def _on(node: int, nodes: int, much: float) -> tuple[float, ...]:
    return tuple(much if each == node else 0.0 for each in range(nodes))


def _heap(random: Random, nodes: int, most_mb: float = 16_000) -> Memory:
    """Give memory on one node, and in half of the cases some of it on another."""
    much, spread = _log(random, 20, most_mb), random.choice((0.0, 0.0, random.random()))
    first, other = random.randrange(nodes), random.randrange(nodes)
    mb = np.array(_on(first, nodes, much * (1 - spread))) + _on(other, nodes, much * spread)
    return Memory(tuple(mb.tolist()), kind="heap")


def _settled(random: Random, nodes: int) -> Group:
    """Run on one node, from the begin or from some time on."""
    cores, bound_s = _log(random, 0.2, 8), random.choice((0.0, random.uniform(1, 60)))
    run = [Phase(0.0, _on(random.randrange(nodes), nodes, cores))]
    if bound_s:
        run.append(Phase(bound_s, _on(random.randrange(nodes), nodes, cores)))
    return Group(tuple(run), (_heap(random, nodes),))


def _wandering(random: Random, nodes: int) -> Group:
    """Go from node to node after stays of the same length."""
    stay_s, cores = _log(random, 1, 90), _log(random, 0.2, 8)
    order = random.sample(range(nodes), random.randint(2, nodes))
    run = tuple(Phase(at * stay_s, _on(node, nodes, cores)) for at, node in enumerate(order))
    return Group(run, (_heap(random, nodes),), repeat_s=stay_s * len(order))


def _restless(random: Random, nodes: int) -> Group:
    """Go from node to node after stays of any length, at times on two."""
    at_s, run, longest_s, cores = 0.0, [], _log(random, 3, 60), _log(random, 0.5, 6)
    while at_s < LENGTH_S:
        on = np.array(_on(random.randrange(nodes), nodes, cores))
        if random.random() < 0.3:  # noqa: PLR2004
            on = on / 2 + _on(random.randrange(nodes), nodes, cores / 2)
        run.append(Phase(at_s, tuple(on.tolist())))
        at_s += _log(random, 1, longest_s)
    return Group(tuple(run), (_heap(random, nodes),))


def _short(random: Random, nodes: int) -> Group:
    """Live for seconds to minutes, one after the other."""
    lives_s = _log(random, 2, 90)
    run = (Phase(0.0, _on(random.randrange(nodes), nodes, _log(random, 0.2, 2))),)
    processes = random.randint(2, 60)
    return Group(
        run, (_heap(random, nodes, 2_000),), processes, apart_s=LENGTH_S / processes, lives_s=lives_s
    )


def _leaning(random: Random, nodes: int) -> Group:
    """Run on one node mostly, and a little on another."""
    cores, share = _log(random, 1, 8), random.uniform(0.0, 0.35)
    home, other = random.randrange(nodes), random.randrange(nodes)
    on = np.array(_on(home, nodes, cores * (1 - share))) + _on(other, nodes, cores * share)
    return Group((Phase(0.0, tuple(on.tolist())),), (_heap(random, nodes),))


def _bursting(random: Random, nodes: int) -> Group:
    """Work for a while, then rest, and be elsewhere at times after that."""
    works_s, rests_s, cores = _log(random, 2, 40), _log(random, 2, 40), _log(random, 0.5, 8)
    every = random.choices(range(nodes), k=3) if random.random() < 0.5 else [0] * 3  # noqa: PLR2004
    run = []
    for at, node in enumerate(every):
        run += [
            Phase(at * (works_s + rests_s), _on(node, nodes, cores)),
            Phase(at * (works_s + rests_s) + works_s, _on(node, nodes, 0.0)),
        ]
    return Group(tuple(run), (_heap(random, nodes),), repeat_s=3 * (works_s + rests_s))


def _growing(random: Random, nodes: int) -> Group:
    """Take memory for a while, where it runs."""
    first = _heap(random, nodes, 4_000)
    until_s, mb_per_s = random.uniform(5, LENGTH_S), _log(random, 1, 200)
    grows = Memory(first.mb, kind="heap", grows=(Growth(0.0, until_s, mb_per_s),))
    return Group((Phase(0.0, _on(random.randrange(nodes), nodes, _log(random, 0.2, 8))),), (grows,))


KINDS: Final[Mapping[str, _Kind]] = {
    "late-bound-worker": _settled,
    "wanderer": _wandering,
    "restless-threads": _restless,
    "short-lived": _short,
    "leaning": _leaning,
    "bursting": _bursting,
    "growing": _growing,
}
