# SPDX-License-Identifier: Apache-2.0

"""What the operator stopped stays stopped, whatever restarts, until he says otherwise."""

import pytest
from structlog.testing import capture_logs

from numad_py.act.gate import Gate
from numad_py.daemon import state
from numad_py.daemon.pause import Pause, Paused


def test_it_closes_the_gate_at_once_and_says_since_when_and_by_whom(tmp_path):
    gate = Gate()

    Pause(tmp_path, gate).begin(uid=0)

    assert list(gate.closed_by) == ["operator"]
    assert gate.closed_by["operator"].startswith("paused since 20")
    assert gate.closed_by["operator"].endswith("by uid 0, until `numad-py resume`")


def test_a_restart_finds_the_gate_closed_and_knows_since_when(tmp_path):
    before = Pause(tmp_path, Gate())
    before.begin(uid=0)
    gate = Gate()

    after = Pause(tmp_path, gate)

    assert not gate.is_open
    assert after.paused == before.paused


def test_a_second_word_changes_nothing(tmp_path):
    state.save(tmp_path / "paused.json", Paused(1_000_000, 0))
    pause = Pause(tmp_path, Gate())

    pause.begin(uid=7)

    assert pause.paused == Paused(1_000_000, 0)


def test_what_ended_does_not_come_back(tmp_path):
    gate = Gate()
    pause = Pause(tmp_path, gate)
    pause.begin(uid=0)

    pause.end()

    assert (gate.is_open, pause.paused) == (True, None)
    assert Pause(tmp_path, Gate()).paused is None


def test_ending_what_never_began_changes_nothing(tmp_path):
    gate = Gate()
    gate.close("configuration", "mode: observe")

    Pause(tmp_path, gate).end()

    assert list(gate.closed_by) == ["configuration"]


@pytest.mark.parametrize("text", ["", "{}", "garbage"])
def test_a_file_that_cannot_be_read_keeps_it_paused_twice_over(tmp_path, text):
    (tmp_path / "paused.json").write_text(text)
    gates = Gate(), Gate()

    with capture_logs():
        for gate in gates:
            Pause(tmp_path, gate)

    assert [gate.is_open for gate in gates] == [False, False]


def test_it_holds_although_it_cannot_be_kept(tmp_path):
    gate = Gate()
    pause = Pause(tmp_path / "gone", gate)

    with pytest.raises(FileNotFoundError):
        pause.begin(uid=0)

    assert not gate.is_open
