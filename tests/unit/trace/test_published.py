# SPDX-License-Identifier: Apache-2.0

"""What is published for other people's readers is what our own does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from numad_py.trace import Writer, read

ROOT = Path(__file__).parents[3]


@pytest.fixture
def page():
    """Hold the code blocks of the page on the format, by language."""
    text = (ROOT / "docs/trace-format.md").read_text()
    return dict(re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


@pytest.fixture
def example(page, tmp_path):
    """Hold the page's example as a file."""
    path = tmp_path / "example.jsonl"
    path.write_text(page["json"])
    return path


def test_the_published_schema_is_up_to_date():
    command = [sys.executable, "-W", "error", "-m", "numad_py.trace.schema"]

    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)

    assert found.stdout == (ROOT / "docs/trace-v1.schema.json").read_bytes(), "write its output there again"


def test_the_published_example_is_what_we_write(example, tmp_path):
    header, ticks = read(example)

    with Writer(tmp_path / "again.jsonl", header) as writer:
        for tick in ticks:
            writer.write(tick)

    assert (tmp_path / "again.jsonl").read_text() == example.read_text()


def test_the_published_reader_reads(page, example, tmp_path):
    header, ticks = read(example)
    with Writer(tmp_path / "trace.jsonl.zst", header) as writer:
        for tick in ticks:
            writer.write(tick)

    found = subprocess.run(
        [sys.executable, "-c", page["python"]], cwd=tmp_path, capture_output=True, check=True, text=True
    )

    assert found.stdout == "100.0 ['python3']\n105.0 ['python3']\n"
