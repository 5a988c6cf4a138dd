# SPDX-License-Identifier: Apache-2.0

"""Baselines have names of their own, play any trace from its begin, and are none of the daemon's policies."""

import pytest

from numad_py import policies, profiles
from numad_py.policies.hold import Hold
from numad_py.sim import cost, replay, scenario, script
from numad_py.sim.baselines import BASELINES
from numad_py.sim.shipped import find
from tests.unit.sim.baselines.runs import looks, running

PLAYED = script.read(find("scenarios", "two-nodes"))


def played(name):
    """Play the shipped scenario under a baseline made anew."""
    prices = cost.default_prices(PLAYED.machine.topology)
    baseline = BASELINES[name](prices, lambda: scenario.ticks(PLAYED))
    return replay.scores(scenario.ticks(PLAYED), {"hold": Hold(), "it": baseline}, prices)


def test_no_profile_can_name_one():
    assert not set(BASELINES) & {*policies.BUILT_IN, *policies.PARAMETERS, *profiles.names()}


@pytest.mark.parametrize("name", BASELINES)
def test_each_plays_the_same_day_the_same_way_and_gains_by_it(name):
    one, other = played(name), played(name)

    assert one == other
    assert one["it"].modelled_s < one["hold"].modelled_s


@pytest.mark.parametrize("name", BASELINES)
def test_each_bears_a_look_without_processes(name):
    recorded = looks(lambda time_s: running({0: 400}, {1: 1.0}) if 3 <= time_s < 6 else (), 10)
    prices = cost.default_prices(recorded[0].snapshot.topology)

    scores = replay.scores(recorded, {"it": BASELINES[name](prices, lambda: recorded)}, prices)

    assert scores["it"].ticks == len(recorded)


def test_a_deadline_of_the_daemon_does_not_hold_them_back():
    recorded = looks(lambda _: running({0: 4000}, {1: 4.0}), 10)
    prices = cost.default_prices(recorded[0].snapshot.topology)
    baselines = {name: make(prices, lambda: recorded) for name, make in BASELINES.items()}

    scores = replay.scores(recorded, baselines, prices, deadline_s=0.0)

    assert {name: score.local_share_end for name, score in scores.items()} == dict.fromkeys(BASELINES, 1.0)
