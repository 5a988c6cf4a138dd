# SPDX-License-Identifier: Apache-2.0

"""A profile beside `default` is shipped only for what it does better by five per cent, on a scenario that nobody tunes on."""

from pathlib import Path
from statistics import median

import pytest

from numad_py import profiles
from numad_py.policies.hold import Hold
from numad_py.sim import held, scenario
from numad_py.sim.replay import scores
from numad_py.sim.sight import Acuity

HELD = Path(__file__).parents[3] / "sim" / "scenarios" / "held"


def times(name, profile, seed):
    """Give the modelled times of a draw, as a sensor would see it, over that of doing nothing."""
    drawn = held.read(HELD / f"{name}.yaml", seed)
    policies = {"hold": Hold()} | {each: profiles.build(profiles.load(each)) for each in ("default", profile)}
    prices = scenario.prices(drawn, drawn.header(name))
    found = scores(scenario.ticks(drawn), policies, prices, acuity=dict.fromkeys(policies, Acuity()))
    return {name: score.modelled_s / found["hold"].modelled_s for name, score in found.items()}


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("gpu-rank", "ranks-nobody-bound"),
        ("gpu-rank", "threads-over-two-packages"),
        ("tiers", "sleeper-in-fast-memory"),
    ],
)
def test_a_further_profile_takes_five_per_cent_less_than_default_on_its_held_scenario(profile, name):
    found = [times(name, profile, seed) for seed in ("one", "two", "three")]

    assert median(each[profile] / each["default"] for each in found) <= 0.95
    assert max(each[profile] for each in found) <= 1.0
