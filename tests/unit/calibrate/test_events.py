# SPDX-License-Identifier: Apache-2.0

"""Events are verified where chasing local, then remote memory shows on the right side each time."""

import numpy as np
import pytest

from numad_py.calibrate.events import Trial
from numad_py.kernel.pmu_events import ROWS

ROW = next(row for row in ROWS if not row.local_is_all)


class Counting:
    """A group that counts what it is told to, all of the time."""

    def __init__(self, local, remote):
        self.counts, self.closed = (local, remote), False

    def change(self):
        return np.array([[2, 10, 10, *self.counts]])

    def close(self):
        self.closed = True


def trial_of(runs):
    """Chase from node to node as told, each time with these counts."""
    groups = [Counting(*counts) for counts in runs.values()]
    left = iter(groups)
    trial = Trial(ROW, lambda: next(left))
    for pair in runs:
        with trial.around(*pair):
            pass
    assert all(group.closed for group in groups)
    return trial


RIGHT = {(0, 0): (9500, 500), (0, 1): (100, 9900), (1, 1): (5000, 0), (1, 0): (0, 5000)}


def test_events_that_tell_every_pair_are_verified():
    assert trial_of(RIGHT).verified


@pytest.mark.parametrize(
    "wrong",
    [{(0, 1): (2000, 8000)}, {(1, 1): (4000, 1000)}, {(1, 0): (0, 50)}],
    ids=["a fifth of remote looks local", "a fifth of local looks remote", "hardly anything was counted"],
)
def test_one_pair_that_is_not_told_spoils_it(wrong):
    assert not trial_of(RIGHT | wrong).verified


def test_on_one_node_nothing_is_verified():
    assert not trial_of({(0, 0): (9500, 0)}).verified


def test_what_was_not_chased_locally_is_not_verified():
    assert not trial_of({(0, 1): (0, 9500)}).verified


def test_events_that_cannot_be_had_spoil_no_chase():
    def refuse():
        raise FileNotFoundError(2, "no such event")

    trial = Trial(ROW, refuse)
    with trial.around(0, 1):
        chased = True

    assert (chased, trial.verified) == (True, False)


def test_a_chase_that_fails_leaves_nothing_open():
    group = Counting(1, 1)
    trial = Trial(ROW, lambda: group)

    with pytest.raises(ZeroDivisionError), trial.around(0, 1):
        1 / 0  # noqa: B018

    assert group.closed
