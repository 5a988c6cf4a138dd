# SPDX-License-Identifier: Apache-2.0

"""A profile is found by its name or its path, the operator's before ours, and makes a guarded policy."""

from pathlib import Path

import pytest

from numad_py import profiles
from numad_py.guard import Guard, Limits
from numad_py.policies.hold import Hold
from numad_py.policies.learned import LearnedParameters
from numad_py.profile import Profile, ProfileError
from tests.builders import process, snapshot


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Give two empty folders where names are looked for, the operator's first."""
    folders = tmp_path / "etc", tmp_path / "shipped"
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(profiles, "PLACES", (*folders, tmp_path / "absent"))
    return folders


def test_what_ships_is_known_by_name():
    assert {"default", "hold", "interleave"} <= set(profiles.names())


def test_every_known_name_makes_a_guarded_policy():
    for name in profiles.names():
        policy = profiles.build(profiles.load(name))

        assert isinstance(policy, Guard)
        assert policy.decide(snapshot()).moves == ()


def test_the_operators_profile_wins_over_the_shipped_one_of_that_name(places):
    etc, shipped = places
    (shipped / "mine.yaml").write_text("policy: threshold\n")
    assert profiles.load("mine").policy == "threshold"

    (etc / "mine.yaml").write_text("policy: hold\n")
    assert profiles.load("mine").policy == "hold"


def test_names_are_told_once_and_in_order(places):
    etc, shipped = places
    for path in (etc / "b.yaml", shipped / "b.yaml", shipped / "a.yaml", shipped / "README.md"):
        path.write_text("policy: hold\n")

    assert profiles.names() == ("a", "b")


@pytest.mark.parametrize("name", ["./mine.yaml", "mine.yaml", "mine/ours"])
def test_what_is_a_path_is_read_from_there_and_looked_for_nowhere(places, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("policy: hold\n")

    assert profiles.load(name).policy == "hold"


def test_a_name_that_nobody_has_is_told_with_those_that_exist(places):
    with pytest.raises(ProfileError, match=r"^there is no profile 'mine'; there is none at all$"):
        profiles.load("mine")
    (places[1] / "ours.yaml").write_text("policy: hold\n")

    with pytest.raises(ProfileError, match=r"^there is no profile 'mine'; there is ours$"):
        profiles.load("mine")


def test_a_path_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ProfileError, match=r"none\.yaml: cannot be read: No such file"):
        profiles.load(str(tmp_path / "none.yaml"))


def test_the_guards_words_reach_the_guard(places):
    (places[0] / "mine.yaml").write_text("policy: hold\nguard: {cooldown_s: 77}\n")

    assert profiles.load("mine").guard.cooldown_s == 77


def test_no_policy_is_made_twice_the_same_for_each_has_a_memory():
    chosen = profiles.load("hold")

    first, second = profiles.build(chosen), profiles.build(chosen)

    assert first is not second
    assert not isinstance(first, Hold)


def test_a_model_is_found_beside_the_profiles_and_the_operators_own_wins(places):
    etc, shipped = places
    (shipped / "model.json").write_text("{}")
    assert profiles.find_model("model.json") == shipped / "model.json"

    (etc / "model.json").write_text("{}")
    assert profiles.find_model("model.json") == etc / "model.json"
    assert profiles.find_model("/mine/model.json") == Path("/mine/model.json")


def test_the_shipped_model_can_be_read():
    assert profiles.read_model("model.json").model.horizon_s > 0


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read: No such file"), ("{}", "it is no model")])
def test_a_model_that_cannot_be_had_leaves_the_rules_and_says_so(places, text, said):
    etc, _ = places
    if text:
        (etc / "model.json").write_text(text)
    policy = profiles.build(Profile("mine", "learned", LearnedParameters(), Limits()))
    seen = snapshot(processes=[process(pages={0: 9000}, cpu_s={1: 0.9})])
    policy.decide(seen)

    told = policy.explain(seen.processes[0].key)

    assert f"weighed by the rules of threshold: model.json: {said}" in told.notes[0]
