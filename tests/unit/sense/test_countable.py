# SPDX-License-Identifier: Apache-2.0

"""What this machine can count is found by trying, and the rest is said once with the remedy."""

import os
import subprocess
import sys

import pytest

from numad_py.kernel.perf_events import CPU_CYCLES, INSTRUCTIONS, PAGE_FAULTS
from numad_py.kernel.pmu_events import ROWS
from numad_py.sense import countable
from numad_py.sense.countable import OF_CPU, OF_KERNEL, Countable

NOBODY = 65534


def test_every_event_is_answered_for():
    answers = countable.availability()

    names = [answer.name for answer in answers]
    assert {event.name for event in OF_KERNEL + OF_CPU} <= set(names)
    assert len(names) == len(set(names))
    assert all(answer.available != bool(answer.why) for answer in answers)


def test_events_held_back_by_one_thing_are_named_together():
    found = Countable(ROWS[0], (), {CPU_CYCLES: "why", PAGE_FAULTS: "other", INSTRUCTIONS: "why"})

    assert found.problems == ("cycles, instructions: why", "page-faults: other")


def test_a_cpu_nobody_knows_is_said(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmachine\t: 0\n")

    found = countable.find(tmp_path)

    assert found.row is None
    assert "tell them apart" in found.problems[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_who_has_no_right_is_told_which_one():
    code = (
        "import os\nfrom numad_py.kernel import perf_refusals\nfrom numad_py.sense import countable\n"
        "from pathlib import Path\nfrom numad_py.kernel import node_sysfs\n"
        "from numad_py.sense.counters import Counters\n"
        f"countable.find()  # whatever is loaded late; nobody may not read root's Python\nos.setuid({NOBODY})\n"
        "print(perf_refusals.paranoid()); print(*countable.find().problems, sep='\\n')\n"
        "print(Counters(node_sysfs.read_topology(), mount=Path('/')).look([]))"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    paranoid, *problems = said.splitlines()
    if int(paranoid) < 2:
        pytest.skip("this kernel lets everybody count")
    assert "page-faults" in problems[0]
    assert f"perf_event_paranoid is {paranoid}" in problems[0]
    assert "CAP_PERFMON" in problems[0]
    assert problems[-1] == "{}"  # and looking is no error
