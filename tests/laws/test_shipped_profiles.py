# SPDX-License-Identifier: Apache-2.0

"""The profiles an operator copies can be read, and hide nothing."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from numad_py import profiles
from numad_py.guard import Limits
from numad_py.policies import PARAMETERS
from numad_py.profile import load_yaml, read
from numad_py.profiles import ExternalParameters

FOLDER = Path(__file__).parents[2] / "policies"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
# How profiles differ beside the first of their policy: in parameters, and in what the guard lets through.
FURTHER = {"gpu-rank": ({}, {"tasks": True}), "tiers": ({"makes_room_after_s": 60.0}, {})}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_says_what_the_code_does_anyway(path):
    profile = read(path, PARAMETERS, Limits)
    parameters, guard = FURTHER.get(path.stem, ({}, {}))

    assert profile.parameters == PARAMETERS[profile.policy](**parameters)
    assert profile.guard == replace(Limits(), **guard)


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.stem != "hold"], ids=lambda path: path.stem
)
def test_a_shipped_profile_shows_everything_that_can_be_set(path):
    document = load_yaml(path)

    assert set(document["parameters"]) == {field.name for field in fields(PARAMETERS[document["policy"]])}
    assert set(document["guard"]) == {field.name for field in fields(Limits)}


def test_the_example_for_a_policy_of_others_says_what_the_code_does_anyway_and_hides_nothing():
    path = FOLDER.parent / "systemd/policy/mine.yaml"

    profile = profiles.load(str(path))

    assert (profile.policy, profile.parameters, profile.guard) == (
        "external",
        ExternalParameters(),
        Limits(),
    )
    assert set(load_yaml(path)["parameters"]) == {field.name for field in fields(ExternalParameters)}


def test_every_policy_has_a_profile():
    policies = [read(path, PARAMETERS, Limits).policy for path in SHIPPED if path.stem not in FURTHER]

    assert sorted(policies) == sorted(PARAMETERS)


def test_the_table_beside_the_profiles_has_them_all():
    text = (FOLDER / "README.md").read_text()

    assert [path.name for path in SHIPPED if f"({path.name})" not in text] == []
