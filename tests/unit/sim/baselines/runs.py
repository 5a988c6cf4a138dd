# SPDX-License-Identifier: Apache-2.0

"""Little days for baselines: one or more processes that look the same at each look but for where they run."""

from numad_py.policies.hold import Hold
from numad_py.sim import replay
from numad_py.sim.cost import default_prices
from tests.builders import GIB, MIB, process, tick, topology

PAGES_OF_A_MIB = MIB // 4096
ON = topology(cpus=8, node_bytes=8 * GIB)
PRICES = default_prices(ON)


def running(mb, cpu_s, pid=1000, on=ON, **shape):
    """Give a process with so many MB by node, which used so much CPU time."""
    pages = {node: amount * PAGES_OF_A_MIB for node, amount in mb.items()}
    return process(pid, pages=pages, cpu_s=cpu_s, on=on, **shape)


def looks(at, seconds, every_s=0.5, on=ON):
    """Record what ``at`` gives for each time: a process, or several in a tuple."""
    times = [number * every_s for number in range(int(seconds / every_s) + 1)]
    made = [at(time_s) for time_s in times]
    together = [each if isinstance(each, tuple) else (each,) for each in made]
    return [tick(time_s=1000.0 + t, processes=each, on=on) for t, each in zip(times, together, strict=True)]


def live(recorded, policy, prices=PRICES):
    """Replay under the policy and give its own ticks, its score, and the score of doing nothing."""
    turns = []
    scores = replay.scores(recorded, {"hold": Hold(), "it": policy}, prices, watch=turns.append)
    return [turn["it"] for turn in turns], scores["it"], scores["hold"]


def moved_mb(ticks):
    """Give the MB that arrived, by look."""
    return [sum(outcome.moved_bytes for outcome in one.outcomes) / MIB for one in ticks]
