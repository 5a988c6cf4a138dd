# SPDX-License-Identifier: Apache-2.0

"""What is written of a machine is read again as it was, and what makes no sense is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py import machines
from numad_py.machines import Bandwidth, LoadedLatency, MachineFile, Measured
from numad_py.profile import ProfileError

SMALL = MachineFile("by hand", ((80.0, 130.0), (131.5, 81.0)))
FULL = replace(
    SMALL,
    move_ns={"4096": 1240.5, "2097152": 190000.0},
    call_ns=42_000,
    memory_share=0.25,
    bandwidth=Bandwidth(((112.8, 34.3), (None, None)), ((60.0, 20.0), (None, None))),
    bandwidth_together=Bandwidth(copy_gb_per_s=((1.0, 2.0), (3.0, 4.0))),
    loaded_latency=(LoadedLatency(0, 1, (1.5, 30.0), (140.0, 250.0)),),
    controller_gb_per_s=((90.0, 120.0), 100.0),
    packages=((0,), (1,)),
    link_gb_per_s=(30.0, 60.0),
    mix_gb_per_s={"0": 220.0, "0.25": 200.5, "1": 110.0},
    parallel_accesses=8.0,
    sources={"link_gb_per_s": "unknown: nobody told"},
    measured=Measured(
        at="2026-11-20 20:30 UTC",
        by="numad-py 0.1.0 calibrate",
        kernel="6.18.44",
        cpu="no: 1:30",
        hypervisor="KVMKVMKVM",
        nodes=(0, 2),
        spread_share={"latency": ((0.01, None), (None, 0.0))},
        doubts=("node 2: 'off', yes", "# 0100"),
    ),
)


@pytest.mark.parametrize("machine", [SMALL, FULL])
def test_a_machine_comes_back_as_it_was(tmp_path, machine):
    path = tmp_path / "machine.yaml"

    machines.write(path, machine)

    assert machines.read(path) == machine


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40))
def test_any_words_come_back_as_they_were(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("machine") / "machine.yaml"
    machine = replace(SMALL, source=words, measured=Measured(doubts=(words,)))

    machines.write(path, machine)

    assert machines.read(path) == machine


def test_a_file_that_is_there_is_overwritten_when_told_and_not_otherwise(tmp_path):
    path = tmp_path / "machine.yaml"
    machines.write(path, SMALL)

    with pytest.raises(FileExistsError):
        machines.write(path, FULL)
    assert machines.read(path) == SMALL

    machines.write(path, FULL, overwrite=True)
    assert machines.read(path) == FULL


def test_the_middle_stands_for_a_range_of_latencies():
    machine = replace(SMALL, latency_ns=((80.0, (120.0, 140.0)), (131.0, 81.0)))

    assert machine.idle_ns == ((80.0, 130.0), (131.0, 81.0))
    assert machine.ranges == ("latency_ns",)
    assert FULL.ranges == ("controller_gb_per_s", "link_gb_per_s")


def test_a_row_of_a_matrix_is_a_line():
    assert "\n- [80.0, 130.0]\n- [131.5, 81.0]\n" in machines.render(SMALL)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bandwidth:\n  read_gb_per_s:\n    - [1, 2]\n", "as many rows"),
        ("bandwidth_together:\n  copy_gb_per_s:\n    - [1]\n    - [2]\n", "as many rows"),
        ("bandwidth:\n  read_gb_per_s:\n    - [1, 0]\n    - [2, 1]\n", "more than 0, or null"),
        ("bandwidth:\n  triad_gb_per_s: []\n", "unknown key"),
        (
            "loaded_latency:\n  - {initiator: 0, target: 1, gb_per_s: [1], latency_ns: []}\n",
            "figure for each load",
        ),
        (
            "loaded_latency:\n  - {initiator: 0, target: 1, gb_per_s: [-1], latency_ns: [1]}\n",
            "a load not less",
        ),
        ("controller_gb_per_s: [1]\n", "a figure for every node"),
        ("controller_gb_per_s: [1, [3, 2]]\n", "a range goes upwards"),
        ("link_gb_per_s: [1, 2, 3]\n", "a list of two numbers"),
        ("parallel_accesses: 0\n", "more than 0"),
        ("packages: [[0]]\n", "every row of latency_ns is needed once"),
        ("packages: [[0, 1], [1]]\n", "every row of latency_ns is needed once"),
        ("mix_gb_per_s: {half: 20}\n", "a share from 0 to 1"),
        ("mix_gb_per_s: {0.5: 20}\n", "what reads alone give"),
        ("sources: {speed: me}\n", "speed is no key"),
        ("call_ns: -1\n", "a price is more than 0"),
        ("measured:\n  doubts: none\n", "a list"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path, text, said):
    path = tmp_path / "machine.yaml"
    path.write_text("source: test\nlatency_ns:\n  - [80, 130]\n  - [131, 81]\n" + text)

    with pytest.raises(ProfileError, match=said):
        machines.read(path)
