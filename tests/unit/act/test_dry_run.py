# SPDX-License-Identifier: Apache-2.0

"""A dry run answers every move, and makes none."""

from numad_py.act.dry_run import DryRun
from numad_py.model import Ending, MoveTasks, Plan, Reason
from tests.builders import move, process


def test_every_move_is_answered_as_not_tried():
    one = process(pages={0: 100})
    wish, task_wish = move(one), MoveTasks(one.key, (1,), Reason.TASKS_FOLLOW_MEMORY)

    outcomes = DryRun().move(Plan((wish,), task_moves=(task_wish,)))

    assert [(each.ending, each.moved_bytes, each.call_s) for each in outcomes] == [
        (Ending.DRY_RUN, 0, ())
    ] * 2


def test_nothing_asked_for_is_nothing_answered():
    assert DryRun().move(Plan()) == ()
