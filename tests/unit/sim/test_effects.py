# SPDX-License-Identifier: Apache-2.0

"""Only what was not fitted can be validated, and what misses is said to miss."""

import pytest

from numad_py.profile import ProfileError, from_mapping
from numad_py.sim.effects import verdicts
from numad_py.sim.script import Effect

FIGURE = "local_share_end"


def verdict(found, *, value, kind="independent", policy="hold"):
    (one,) = verdicts([Effect(FIGURE, policy, value, kind)], {"hold": {FIGURE: found}})
    return one


@pytest.mark.parametrize("found", [0.78, 0.1, None])
def test_what_was_fitted_is_calibrated_and_never_validated(found):
    assert verdict(found, value=0.78, kind="fitted").word == "calibrated"


@pytest.mark.parametrize(
    ("found", "value", "word"),
    [
        (0.78, 0.78, "validated"),
        (0.71, 0.78, "validated"),
        (0.70, 0.78, "not validated"),
        (0.87, 0.78, "not validated"),
        (0.30, (0.30, 0.40), "validated"),
        (0.45, (0.30, 0.40), "not validated"),
        (None, 0.78, "not validated"),
    ],
)
def test_what_is_independent_is_validated_within_a_tenth(found, value, word):
    assert verdict(found, value=value).word == word


def test_the_sentence_has_both_figures():
    assert verdict(0.5, value=(0.3, 0.4)).why == (
        "local_share_end under hold was published as 0.3 to 0.4 and is 0.5 here; 10% off are allowed"
    )


def test_a_policy_that_was_not_replayed_is_asked_for():
    one = verdict(0.5, value=0.5, policy="default")

    assert (one.word, "add --policy default" in one.why) == ("not compared", True)


def test_a_figure_that_no_score_has_is_refused():
    with pytest.raises(ProfileError, match="figure: found 'speed', allowed is local_share_end"):
        from_mapping(Effect, {"figure": "speed", "policy": "hold", "value": 1, "kind": "fitted"}, "here")
