# SPDX-License-Identifier: Apache-2.0

"""Where the demo cannot run it says why, and replays what ships. Where it can, it is tried in a guest."""

import os
from dataclasses import replace

import pytest

from numad_py.cli import demo as module
from numad_py.cli.demo import bind, demo, usable
from numad_py.kernel import node_sysfs
from numad_py.kernel.proc_status import Status
from tests.builders import TWO_NODES

pytestmark = pytest.mark.skipif(
    len(node_sysfs.read_topology().nodes) > 1, reason="here the demo would run for real"
)


def test_on_one_node_it_says_why_and_replays_the_recording(capsys):
    demo()

    said = capsys.readouterr().out
    assert said.startswith("This machine has one NUMA node with CPUs and memory; so this replays")
    assert "late-bound-hold.jsonl.zst: 2 nodes" in said
    assert "default" in said


@pytest.mark.parametrize(
    ("nodes", "cpus", "ids"),
    [((0, 1), (1, 2, 3), [0, 1]), ((0,), (0, 1, 2, 3), [0]), ((0, 1), (0, 1), [0]), ((0,), (2, 3), [])],
)
def test_a_node_is_usable_where_its_memory_and_one_of_its_cpus_are_allowed(nodes, cpus, ids):
    allowed = Status(nodes_allowed=nodes, cpus_allowed=cpus, rss_anon_bytes=0, uid=0)

    assert [node.id for node in usable(TWO_NODES.nodes, allowed)] == ids


def test_a_node_whose_cpus_are_not_there_is_one_sentence():
    elsewhere = replace(TWO_NODES.nodes[1], cpus=(8191,))

    with pytest.raises(ChildProcessError, match=r"^the demo job cannot be bound to node 1: "):
        bind(os.getpid(), elsewhere)


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
