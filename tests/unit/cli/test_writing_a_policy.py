# SPDX-License-Identifier: Apache-2.0

"""What docs/writing-a-policy.md says to write and to type does what it says; where it no longer does, write there what does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from numad_py.daemon.others import answer
from numad_py.profiles import ExternalParameters

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/writing-a-policy.md").read_text()
CODE = dict(re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
TYPED = re.findall(r"^    \$ (.+)\n((?:    [┃│].+\n)+)", PAGE, re.MULTILINE)
KEYS = re.findall(r"^\| (`[^|]+`) \|", PAGE, re.MULTILINE)


@pytest.fixture
def clone(tmp_path):
    """Give a folder as a reader has it, with what the page had them write."""
    (tmp_path / "sim").symlink_to(ROOT / "sim")
    (tmp_path / "mine.py").write_text(CODE["python"])
    (tmp_path / "bring-home.pl").write_text(CODE["perl"])
    return tmp_path


def typed(line, folder):
    """Type it into a shell; give what it prints, and says on stderr."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "80",
    }
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("line", "output"), TYPED, ids=["simulate", "sweep", "program"])
def test_what_the_page_types_prints_what_the_page_shows(clone, line, output):
    found = typed(line, clone)

    shown, printed = output.split(), found.stdout.split()
    assert [*filter(not_a_number, shown)] == [*filter(not_a_number, printed)], found.stderr
    assert numbers(shown) == pytest.approx(numbers(printed), rel=0.2)  # the simulator may change a little


def number(word):
    """Give the number that a word is, else None."""
    return float(word.replace(",", "")) if re.fullmatch(r"[0-9][0-9,.]*", word) else None


def not_a_number(word):
    return number(word) is None


def numbers(words):
    return [found for word in words if (found := number(word)) is not None]


def test_a_mistake_in_it_is_told_as_the_page_says(clone):
    (clone / "mine.py").write_text(CODE["python"].replace(">= self.patience", ">= patience"))
    (sentence,) = re.findall(r"^    (numad-py: mine:.+)$", PAGE, re.MULTILINE)

    found = typed("numad-py simulate sim/traces/late-bound-hold.jsonl.zst --policy mine:BringHome", clone)

    assert found.returncode == 1
    assert found.stderr == f"{sentence.replace('/home/me', str(clone))}\n"


def test_it_is_as_short_as_the_page_says():
    assert len(CODE["python"].splitlines()) == 30


def test_the_page_has_every_key_of_an_answer_and_every_parameter_with_its_default():
    keys = {key for row in KEYS for key in re.findall(r"`(\w+)`", row)}
    parameters = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", PAGE, re.MULTILINE))
    parts = (answer.Answer, answer.Move, answer.TaskMove)

    assert {name for part in parts for name in part.__struct_fields__} - {"nodes"} <= keys
    for name, value in vars(ExternalParameters()).items():
        assert parameters[name] == f"{value:g}" if isinstance(value, float) else str(value)
