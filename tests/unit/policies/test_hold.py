# SPDX-License-Identifier: Apache-2.0

"""Hold does nothing, whatever it sees."""

from hypothesis import given

from numad_py.policies.hold import Hold
from tests.builders import drawn_snapshots


@given(drawn_snapshots())
def test_nothing_ever_moves(seen):
    assert not Hold().decide(seen).moves
