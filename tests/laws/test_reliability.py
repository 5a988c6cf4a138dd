# SPDX-License-Identifier: Apache-2.0

"""Every fault of docs/reliability.md has the test that it names, and nothing is decided by the wall clock."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")]
WALL_CLOCK = re.compile(r"\btime\.time\(|\bdatetime\b|CLOCK_REALTIME|\btime\.time_ns\(")
TELL_THE_DATE = {  # to people, in logs, metrics and the heads of traces
    "cli/calibrate.py",
    "cli/status.py",
    "daemon/metrics/counting.py",
    "daemon/pause.py",
    "daemon/running.py",
    "daemon/service.py",
    "daemon/status.py",
}


@pytest.mark.parametrize("row", [row for row in ROWS if "`tests/" in row])
def test_the_test_that_a_row_names_is_there(row):
    (path, name) = NAMED.search(row).groups()

    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_row_but_the_heads_names_a_test():
    without = [row for row in ROWS if not NAMED.search(row) and not re.match(r"\| (fault|attack|---) ", row)]

    assert without == []


def test_no_decision_reads_the_wall_clock():
    sources = (path.relative_to(ROOT / "numad_py") for path in (ROOT / "numad_py").rglob("*.py"))

    read = {str(path) for path in sources if WALL_CLOCK.search((ROOT / "numad_py" / path).read_text())}

    assert read <= TELL_THE_DATE
