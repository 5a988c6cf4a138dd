# SPDX-License-Identifier: Apache-2.0

"""How far a moving call got can be told from what it returned. The calls themselves are tried in guests."""

import errno

import numpy as np
import pytest

from numad_py.kernel.migration import UNTOUCHED, set_affinity, tried

SHARED = -errno.EACCES
THERE = 1


@pytest.mark.parametrize(
    ("left", "status", "arrived", "expected"),
    [
        pytest.param(0, [THERE] * 4, [1, 1, 1, 1], 4, id="all moved"),
        pytest.param(0, [THERE, SHARED, THERE, SHARED], [1, 0, 1, 0], 4, id="shared pages end nothing"),
        pytest.param(1, [UNTOUCHED] * 4, [1, 0, 1, 1], 4, id="one of the only group would not move"),
        pytest.param(
            4, [UNTOUCHED, SHARED, *[UNTOUCHED] * 3], [0, 0, 0, 0, 0], 2, id="the end at a shared one"
        ),
        pytest.param(
            3, [UNTOUCHED, SHARED, *[UNTOUCHED] * 2], [0, 0, 1, 0], 2, id="one behind was there before"
        ),
        pytest.param(1, [THERE, SHARED, *[UNTOUCHED] * 2], [1, 0, 1, 0], 4, id="one of the last group stays"),
        pytest.param(2, [THERE, SHARED, *[UNTOUCHED] * 2], [1, 0, 0, 0], 4, id="all of the last group stay"),
    ],
)
def test_the_pages_tried_are_told_from_the_answers(left, status, arrived, expected):
    answers = np.array(status, np.int32)

    assert tried(left, answers, np.array(arrived, bool)) == expected


@pytest.mark.parametrize("tid", [0, -1])
def test_our_own_affinity_is_not_changed_by_mistake(tid):
    with pytest.raises(ValueError, match="not a thread"):
        set_affinity(tid, {0})
