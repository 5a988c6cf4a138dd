# SPDX-License-Identifier: Apache-2.0

"""``--set KEY=VALUES`` becomes the points that a reader expects, or a sentence."""

import re

import pytest

from numad_py.profile import ProfileError
from numad_py.sim import grid


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("3", [3]),
        ("0.05,0.1", [0.05, 0.1]),
        ("1..4", [1, 2, 3, 4]),
        ("-1..1", [-1, 0, 1]),
        ("0.1..0.5/5", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("0..1/3", [0, 0.5, 1]),
        ("2..8/3", [2, 5, 8]),
        ("1..2,8", [1, 2, 8]),
        ("true,heap", [True, "heap"]),
    ],
)
def test_values_are_listed_or_a_range(written, values):
    found = [point["key"] for point in grid.points([f"key={written}"])]

    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_several_keys_make_the_product_and_the_last_changes_fastest():
    points = grid.points(["a=1..2", "b=x,y"])

    assert points == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["patience"], "found 'patience', needed is KEY=VALUES"),
        (["=1"], "needed is KEY=VALUES"),
        (["a="], "needed is KEY=VALUES"),
        (["a=1", "a=2"], "found a twice: give all its values at once"),
        (["a=1,1"], "a: found a value twice in '1,1'"),
        (["a=1,,2"], "a: found '', needed are values"),
        (["a=0.1..0.5"], "a: found '0.1..0.5', needed are values"),
        (["a=4..1"], "upwards"),
        (["a=1..4/1"], "a: found '1..4/1'"),
        (["a=1..x"], "a: found '1..x'"),
        (["a=no"], "a: value: found a bare no"),
        (["a=1..1000", "b=1..1000"], "found 1,000,000 points, allowed are 100,000"),
    ],
)
def test_what_is_no_range_is_refused(sets, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        grid.points(sets)
