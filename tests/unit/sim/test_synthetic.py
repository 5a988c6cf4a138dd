# SPDX-License-Identifier: Apache-2.0

"""The shipped made-up trace is what its module makes, and what its table of sources says."""

import hashlib
import re
from pathlib import Path

import pytest

from numad_py import trace
from numad_py.sim import synthetic
from numad_py.trace.compression import decompressed

TRACES = Path(__file__).parents[3] / "sim" / "traces"
SHIPPED = sorted(TRACES.glob("*.jsonl*"))
MOST_BYTES = 200_000


def plain(path):
    """Give a trace's lines as they were before compression, whose bytes depend on the library's version."""
    with path.open("rb") as file:
        return b"".join(decompressed(file, path))


def test_making_the_trace_again_gives_the_same_lines(tmp_path):
    with trace.Writer(tmp_path / "again.jsonl", synthetic.HEADER) as writer:
        for tick in synthetic.ticks():
            writer.write(tick)

    assert plain(tmp_path / "again.jsonl") == plain(TRACES / "two-nodes.jsonl.zst")


def test_two_making_runs_give_the_same_ticks():
    first, second = (
        [tick.snapshot.jobs[0].processes[0].threads.cpu_s.tolist() for tick in synthetic.ticks()]
        for _ in range(2)
    )

    assert first == second


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_trace_is_small_and_has_its_source_and_checksum(path):
    sources = dict(
        re.findall(
            r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (TRACES / "SOURCES.md").read_text(), re.MULTILINE
        )
    )

    assert path.stat().st_size < MOST_BYTES
    assert sources[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_trace_shows_every_kind_of_job():
    header, ticks = trace.read(TRACES / "two-nodes.jsonl.zst")
    paths = {Path(job.path).stem for tick in ticks for job in tick.snapshot.jobs}

    assert paths == {script.name for script in synthetic.SCRIPTS}
    assert header == synthetic.HEADER
