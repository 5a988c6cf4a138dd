# SPDX-License-Identifier: Apache-2.0

"""Each right that is lacking is told, and where none is left to act with, nothing is tried."""

import pytest
from structlog.testing import capture_logs

from numad_py.act.gate import Gate
from numad_py.daemon import rights

BOTH = {"CAP_SYS_PTRACE", "CAP_SYS_NICE"}


@pytest.mark.parametrize(
    ("effective", "lacking", "acts"),
    [
        (BOTH, [], True),
        ({"CAP_SYS_NICE"}, ["CAP_SYS_PTRACE"], True),
        ({"CAP_SYS_PTRACE"}, ["CAP_SYS_NICE"], True),
        (set(), ["CAP_SYS_PTRACE", "CAP_SYS_NICE"], False),
        ({"CAP_PERFMON"}, ["CAP_SYS_PTRACE", "CAP_SYS_NICE"], False),
    ],
)
def test_the_ladder_goes_from_pages_and_tasks_over_either_to_observing(effective, lacking, acts):
    gate = Gate()

    with capture_logs() as log:
        rights.apply(frozenset(effective), gate)

    assert [line["capability"] for line in log] == lacking
    assert all(line["log_level"] == "warning" and line["so"] for line in log)
    assert gate.is_open == acts


def test_rights_that_came_back_open_the_gate_again():
    gate = Gate()
    rights.apply(frozenset(), gate)

    rights.apply(frozenset(BOTH), gate)

    assert gate.is_open
