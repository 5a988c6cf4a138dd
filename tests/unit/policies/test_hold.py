# SPDX-License-Identifier: Apache-2.0

"""Hold does nothing, whatever it sees."""

from hypothesis import given

from numad_py.model import Decision
from numad_py.policies.hold import Hold
from tests.builders import drawn_snapshots, process


@given(drawn_snapshots())
def test_nothing_ever_moves(seen):
    assert not Hold().decide(seen).moves


def test_it_says_that_all_stays_and_compares_nothing():
    told = Hold().explain(process().key)

    assert (told.decision, told.compared) == (Decision.STAY, ())
