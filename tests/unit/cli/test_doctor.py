# SPDX-License-Identifier: Apache-2.0

"""``doctor`` tells on any machine, without rights, what can be seen there."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from numad_py.cli.doctor import doctor
from numad_py.sense import visible

WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def test_the_tables_name_every_sense_and_every_mover(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    doctor()

    shown, _ = capsys.readouterr()
    assert all(word in shown for word in ("placement of a job", "counters", "kernel.numa_balancing"))


def test_no_word_is_left_out_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")

    doctor()

    shown, _ = capsys.readouterr()
    assert "…" not in shown


def test_a_remedy_in_brackets_is_shown_as_it_is(capsys, monkeypatch):
    lacking = visible.Finding("GPUs", "no", "", "pip install 'numad-py[gpu]'")
    monkeypatch.setattr(visible, "findings", lambda _: (lacking,))

    doctor()

    assert "pip install 'numad-py[gpu]'" in " ".join(capsys.readouterr().out.split())


def test_json_holds_the_same_for_machines(capsys):
    doctor(as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"senses", "movers"}
    assert {sense["seen"] for sense in told["senses"]} <= {"yes", "limited", "no"}
    assert told["movers"][0]["name"] == "kernel.numa_balancing"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give rights away")
def test_a_user_without_rights_is_told_which_are_lacking():
    command = [*WITHOUT_RIGHTS, sys.executable, "-m", "numad_py", "doctor", "--json"]

    shown = subprocess.run(command, capture_output=True, text=True, check=True)

    remedies = {sense["sense"]: sense["remedy"] for sense in json.loads(shown.stdout)["senses"]}
    assert "CAP_SYS_PTRACE" in remedies["placement of a process"]
