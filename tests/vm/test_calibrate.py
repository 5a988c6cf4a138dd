# SPDX-License-Identifier: Apache-2.0

"""An emulated machine is not calibrated; on its nodes, what calibrating does would go where it says.

Times in a guest are the emulator's, so nothing is said of them here.
"""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from numad_py.act import price
from numad_py.kernel import hypervisor, node_sysfs, placement
from tests.vm import observer

MIB = 1 << 20

pytestmark = pytest.mark.guest("four-nodes")  # of which two have no CPU


@pytest.fixture
def calibrate():
    """Give the modules by name: they take half a minute to import in a guest, so only who needs them does."""
    names = ("figures", "loops", "memory", "site", "sweep")
    return SimpleNamespace(**{name: import_module(f"numad_py.calibrate.{name}") for name in names})


def test_an_emulated_machine_is_refused_in_one_sentence(tmp_path):
    words = [sys.executable, "-m", "numad_py", "calibrate", "--output", tmp_path / "machine.yaml"]

    ended = subprocess.run(words, capture_output=True, text=True, check=False)

    print(f"\n{ended.stderr}", end="")
    assert (ended.returncode, ended.stdout, list(tmp_path.iterdir())) == (1, "", [])
    assert ended.stderr.startswith("numad-py: this machine is emulated (")
    assert len(ended.stderr.splitlines()) == 1


def test_cpuid_alone_tells_the_emulator(calibrate):
    host = hypervisor.read(calibrate.loops.cpuid(hypervisor.CPUID_SIGNATURE)[4:])

    print(f"\n{host}", end="")
    assert host.virtual
    assert host.signature == "TCGTCGTCGTCG"
    assert host.emulator.startswith("CPUID ")


def test_memory_to_be_measured_lies_on_its_node(guest, calibrate):
    for node in range(len(guest.nodes)):
        words = calibrate.memory.on_node(node, chain_bytes=4 * MIB, stream_bytes=2 * MIB, bound=True)

        for array in (words.chain, words.stream):
            pages = array.ctypes.data + np.arange(0, array.nbytes, 4096, dtype=np.uint64)
            assert set(placement.nodes_of(os.getpid(), pages).tolist()) == {node}
        assert observer.resident_bytes(os.getpid())[node] >= 6 * MIB


def test_every_pair_of_nodes_is_measured(guest, calibrate):
    site, briefly = calibrate.site, calibrate.figures.Effort(repetitions=2, steps=100, window_s=0.001)
    cpus = {number: site.Cpu(number, ()) for number in os.sched_getaffinity(0)}
    plenty = dict.fromkeys(range(len(guest.nodes)), 1 << 36)  # as if free, since little of it is taken
    here = site.plan(node_sysfs.read_topology(), cpus, plenty, gpu=False)
    little = dict.fromkeys(here.targets, 2 * MIB)

    small = replace(here, chain_bytes=little, stream_bytes=little)
    found = calibrate.sweep.run(calibrate.sweep.Sweep(small, briefly), iter)

    with_cpus = [node for node, each in enumerate(guest.nodes) if each.cpus]
    pairs = {(a, b) for a in with_cpus for b in range(len(guest.nodes))}
    assert {quantity: set(by_pair) for quantity, by_pair in found.figures.items()} == dict.fromkeys(
        calibrate.figures.Quantity, pairs
    )


def test_moving_has_a_price_for_small_and_for_huge_pages_and_for_a_call():
    prices = price.prices(node_sysfs.read_topology())

    print(f"\n{prices}", end="")
    assert set(prices.page_ns) == {4096, 2 * MIB}
    assert 0 < prices.page_ns[4096] < prices.page_ns[2 * MIB]
    assert prices.call_ns >= 0
