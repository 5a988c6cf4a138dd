# SPDX-License-Identifier: Apache-2.0

"""A dry run answers every move, and makes none."""

from numad_py.act.dry_run import DryRun
from numad_py.model import Ending, Plan
from tests.builders import move, process


def test_every_move_is_answered_as_not_tried():
    wish = move(process(pages={0: 100}))

    outcomes = DryRun().move(Plan((wish, wish)))

    assert [(each.ending, each.moved_bytes, each.call_s) for each in outcomes] == [
        (Ending.DRY_RUN, 0, ())
    ] * 2


def test_nothing_asked_for_is_nothing_answered():
    assert DryRun().move(Plan()) == ()
