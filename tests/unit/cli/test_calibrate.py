# SPDX-License-Identifier: Apache-2.0

"""Calibrating ends in a file and a table, or in one sentence before anything was measured."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from numad_py import machines
from numad_py.calibrate import CannotCalibrate, figures, site
from numad_py.cli import calibrate as verb
from numad_py.cli import plain
from numad_py.cli.calibrate import calibrate
from numad_py.cli.writable import refuse_unwritable
from numad_py.kernel.hypervisor import Host
from numad_py.machines import Bandwidth, LoadedLatency, MachineFile, Measured
from numad_py.sim import cost

MIB = 1 << 20


@pytest.fixture
def small(monkeypatch):
    """Measure little, for a moment: what comes out means nothing, but it is all there."""
    here = site.read()
    sizes = [dict.fromkeys(here.targets, 2 * MIB) for _ in range(2)]
    monkeypatch.setattr(site, "read", lambda: site.Site(here.topology, here.cores, *sizes))
    monkeypatch.setattr(verb, "QUICK", figures.Effort(repetitions=3, steps=1000, window_s=0.002))


@pytest.mark.usefixtures("small")
def test_a_file_is_written_that_a_simulation_reads(tmp_path, capsys):
    path = tmp_path / "machine.yaml"

    calibrate(output=path, quick=True)

    told = capsys.readouterr().out
    assert cost.read(path).latency_ns.min() > 0
    assert "idle latency, ns" in told
    assert "sure: " in told
    assert "--machine" in told


@pytest.mark.usefixtures("small")
def test_for_machines_the_same_figures_are_json(tmp_path, capsys):
    path = tmp_path / "machine.yaml"

    calibrate(output=path, quick=True, as_json=True)

    told = json.loads(capsys.readouterr().out)
    machine = machines.read(path)
    assert told["latency_ns"] == [list(row) for row in machine.latency_ns]
    assert told["measured"]["doubts"] == list(machine.measured.doubts)


def test_a_file_that_is_there_is_not_even_measured_for(tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text("mine")

    with pytest.raises(FileExistsError, match="say --overwrite"):
        calibrate(output=path)

    assert path.read_text() == "mine"


def test_a_link_to_nothing_is_not_even_measured_for(tmp_path):
    (tmp_path / "machine.yaml").symlink_to(tmp_path / "none")

    with pytest.raises(FileExistsError, match="say --overwrite"):
        calibrate(output=tmp_path / "machine.yaml")


def test_a_folder_that_is_not_there_is_not_even_measured_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is no folder"):
        calibrate(output=tmp_path / "none" / "machine.yaml")


def test_a_file_that_cannot_be_written_is_not_even_measured_for(tmp_path):
    with pytest.raises(OSError, match=r"Permission denied|Operation not permitted|No such file") as refused:
        calibrate(output=Path("/proc/machine.yaml"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        calibrate(output=tmp_path / "folder", overwrite=True)

    assert refused.value.filename == "/proc/machine.yaml"


def test_a_file_that_is_replaced_is_as_it_was_until_there_is_another(tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text("mine")

    refuse_unwritable(path, tmp_path / "other.yaml")

    assert [each.read_text() for each in tmp_path.iterdir()] == ["mine"]


def test_an_emulated_machine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        verb.hypervisor, "read", lambda: Host("QEMU TCG CPU version 2.5+", "", "", virtual=True)
    )

    with pytest.raises(CannotCalibrate, match="its CPU is called QEMU TCG CPU"):
        calibrate(output=tmp_path / "machine.yaml")

    assert list(tmp_path.iterdir()) == []


def test_without_numba_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(verb.hypervisor, "read", lambda: Host("Some CPU", "", "", virtual=False))

    with pytest.raises(CannotCalibrate, match="calibrate needs numba, which is not installed"):
        calibrate(output=tmp_path / "machine.yaml")


def test_no_figure_of_many_nodes_is_cut_or_folded_on_80_columns(capsys):
    machine = MachineFile("test", ((1234.5,) * 12,) * 12, measured=Measured(nodes=tuple(range(12))))

    plain.show(next(iter(verb.told(machine, Path("m.yaml")))))

    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines if "from" in line] == [
        f"from node {node} to{' 1234.5' * 12}" for node in range(12)
    ]


def test_every_figure_of_two_nodes_is_told(capsys):
    machine = MachineFile(
        "test",
        ((80.0, 130.0), (131.0, 81.0)),
        move_ns={"4096": 1240.0, "2097152": 190_000.0},
        bandwidth=Bandwidth(read_gb_per_s=((112.8, 34.3), (None, None))),
        loaded_latency=(LoadedLatency(0, 2, (1.0, 30.0), (140.0, 250.0)),),
        measured=Measured(
            nodes=(0, 2), spread_share={"latency": ((0.01, 0.02), (None, None))}, doubts=("it rained",)
        ),
    )

    for line in verb.told(machine, Path("m.yaml")):
        Console(width=200).print(line, highlight=False)

    said = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert {"idle latency, ns 0 2", "from node 2 to 131.0 81.0", "from node 2 to - -"} <= set(lines)
    assert "node 0 to 2 under load: 140 ns at 1.0 GB/s, 250 ns at 30.0 GB/s" in lines
    assert "moving a page: 1.24 µs for 4 KiB, 190.00 µs for 2048 KiB" in lines
    assert "write" not in said
    assert "at most 2.0% (latency)" in said
    assert "doubt: it rained" in lines
