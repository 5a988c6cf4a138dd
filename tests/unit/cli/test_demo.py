# SPDX-License-Identifier: Apache-2.0

"""Where the demo cannot run it says why, and replays what ships. Where it can, it is tried in a guest."""

import pytest

from numad_py.cli import demo as module
from numad_py.cli.demo import demo
from numad_py.kernel import node_sysfs

pytestmark = pytest.mark.skipif(
    len(node_sysfs.read_topology().nodes) > 1, reason="here the demo would run for real"
)


def test_on_one_node_it_says_why_and_replays_the_recording(capsys):
    demo()

    said = capsys.readouterr().out
    assert said.startswith("This machine has one NUMA node with CPUs and memory; so this replays")
    assert "late-bound-hold.jsonl.zst: 2 nodes" in said
    assert "default" in said


def test_the_clones_recording_wins_over_the_installed(monkeypatch, tmp_path):
    places = tmp_path / "clone", tmp_path / "installed"
    for place in places:
        place.touch()
    monkeypatch.setattr(module, "SHIPPED_TRACES", places)
    assert module.shipped_trace() == places[0]

    places[0].unlink()
    assert module.shipped_trace() == places[1]


def test_without_the_recording_it_says_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SHIPPED_TRACES", (tmp_path / "none",))

    with pytest.raises(FileNotFoundError, match="no trace to replay") as missing:
        module.shipped_trace()

    assert missing.value.filename == str(tmp_path / "none")
