# SPDX-License-Identifier: Apache-2.0

"""Where the demo cannot run it says why, and replays what ships. Where it can, it is tried in a guest."""

import pytest

from numad_py.cli import demo as module
from numad_py.cli.demo import demo
from numad_py.kernel import node_sysfs

pytestmark = pytest.mark.skipif(
    len(node_sysfs.read_topology().nodes) > 1, reason="here the demo would run for real"
)


def test_on_one_node_it_says_why_and_replays_every_trace_that_ships(capsys):
    demo()

    said = capsys.readouterr().out
    assert said.startswith("This machine has one NUMA node with CPUs and memory; so this replays")
    shipped = sorted(path.name for path in module.SHIPPED_TRACES[0].glob("*.jsonl.zst"))
    assert shipped
    assert [name for name in shipped if f"{name}: " not in said] == []


def test_the_clones_traces_win_over_the_installed(monkeypatch, tmp_path):
    places = tmp_path / "clone", tmp_path / "installed"
    for place in places:
        place.mkdir()
        (place / "b.jsonl.zst").touch()
    (places[1] / "a.jsonl.zst").touch()
    monkeypatch.setattr(module, "SHIPPED_TRACES", places)
    assert module.traces() == [places[0] / "b.jsonl.zst"]

    (places[0] / "b.jsonl.zst").unlink()
    assert module.traces() == [places[1] / "a.jsonl.zst", places[1] / "b.jsonl.zst"]


def test_without_any_trace_it_says_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SHIPPED_TRACES", (tmp_path,))

    with pytest.raises(FileNotFoundError, match="no trace to replay") as missing:
        demo()

    assert missing.value.filename == str(tmp_path)
