# SPDX-License-Identifier: Apache-2.0

"""A model is what its file says, or refused in a sentence."""

import msgspec
import numpy as np
import pytest

from numad_py.policies.trees import LEAF, Model, ModelError, Tree, Trees, written

STUMP = Tree((0, 0, 0), (0.5, 0.0, 0.0), (1, LEAF, LEAF), (2, LEAF, LEAF), (0.0, -1.0, 1.0))
NAMES = ("share",)


def model(*trees, lower=(0.0,), features=NAMES):
    return Model(features, lower, (1.0,), 60.0, 2.0, 0.5, trees or (STUMP,))


def refusal(file, names=NAMES):
    with pytest.raises(ModelError) as refused:
        Trees(file, names)
    return str(refused.value)


def test_what_is_at_most_the_threshold_goes_left():
    trees = Trees(written(model(STUMP, STUMP)), NAMES)

    said = trees.predicted(np.array([[0.25], [0.5], [0.75]]))

    assert said.tolist() == [1.0, 1.0, 3.0]


def test_outside_its_bounds_there_is_no_answer():
    trees = Trees(written(model()), NAMES)

    said = trees.predicted(np.array([[-0.1], [0.0], [1.1], [np.nan]]))

    assert np.isnan(said).tolist() == [True, False, True, True]


def test_a_file_that_was_tampered_with_is_refused():
    file = written(model()).replace(b"-1.0", b"-9.0")

    assert refusal(file) == "it is not as it was written: its hash differs"


def test_a_model_of_other_features_is_refused():
    assert refusal(written(model()), ("cores",)).startswith("it was trained on other features")


def test_another_format_is_refused():
    file = written(model()).replace(b'"format":1', b'"format":2')

    assert refusal(file) == "its format is 2, known is 1"


@pytest.mark.parametrize("file", [b"", b"[]", b'{"format":1}', b"\xff"])
def test_what_is_no_model_is_refused(file):
    assert refusal(file).startswith("it is no model: ")


def test_bounds_are_those_of_the_features():
    assert refusal(written(model(lower=()))) == "its bounds are not those of its features"


@pytest.mark.parametrize(
    "change",
    [
        {"left": (0, LEAF, LEAF)},
        {"right": (3, LEAF, LEAF)},
        {"feature": (1, 0, 0)},
        {"feature": (-1, 0, 0)},
        {"value": (0.0,)},
        {"left": (), "right": (), "feature": (), "threshold": (), "value": ()},
    ],
)
def test_a_tree_that_leads_in_a_circle_or_out_of_itself_is_refused(change):
    assert refusal(written(model(msgspec.structs.replace(STUMP, **change)))) == "its trees make no sense"
