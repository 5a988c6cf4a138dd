# SPDX-License-Identifier: Apache-2.0

"""A profile beside `default` is shipped only for what it does better by five per cent, on a scenario that nobody tunes on."""

from pathlib import Path
from statistics import median

from numad_py import profiles
from numad_py.policies.hold import Hold
from numad_py.sim import held, scenario
from numad_py.sim.replay import scores
from numad_py.sim.sight import Acuity

RANKS = Path(__file__).parents[3] / "sim" / "scenarios" / "held" / "ranks-nobody-bound.yaml"


def times(seed):
    """Give the modelled times of a draw, as a sensor would see it, over that of doing nothing."""
    drawn = held.read(RANKS, seed)
    policies = {"hold": Hold()} | {
        name: profiles.build(profiles.load(name)) for name in ("default", "gpu-rank")
    }
    prices = scenario.prices(drawn, drawn.header("ranks"))
    found = scores(scenario.ticks(drawn), policies, prices, acuity=dict.fromkeys(policies, Acuity()))
    return {name: score.modelled_s / found["hold"].modelled_s for name, score in found.items()}


def test_gpu_rank_takes_five_per_cent_less_than_default_for_ranks_that_nobody_bound():
    found = [times(seed) for seed in ("one", "two", "three")]

    assert median(each["gpu-rank"] / each["default"] for each in found) <= 0.95
    assert max(each["gpu-rank"] for each in found) <= 1.0
