# SPDX-License-Identifier: Apache-2.0

"""What was measured becomes a machine file that a simulation reads, and what may be doubted is in it."""

import numpy as np
import pytest

from numad_py import machines
from numad_py.calibrate import company, result, site
from numad_py.calibrate.company import CpuUse
from numad_py.calibrate.figures import Effort, Figure, Quantity
from numad_py.calibrate.latency import Load
from numad_py.calibrate.result import Circumstances
from numad_py.calibrate.site import Site
from numad_py.calibrate.sweep import Found, Sweep, run
from numad_py.kernel.hypervisor import Host
from numad_py.sim import cost
from tests.builders import GIB, topology

BARE = Host("Some CPU", "", "", virtual=False)
THREE = Site(
    topology(3, cpuless=(2,)),
    {0: (0, 1), 1: (2, 3)},
    dict.fromkeys(range(3), GIB),
    dict.fromkeys(range(3), GIB),
)
LATENCY_NS = {(0, 0): 90.0, (0, 1): 140.0, (0, 2): 250.0, (1, 0): 142.0, (1, 1): 91.0, (1, 2): 300.0}


def found(*, spread=0.01, huge=1.0):
    """Give what a sweep of three nodes, one without CPUs, finds."""
    every = Found(huge_share=dict.fromkeys(range(3), huge))
    for pair, ns in LATENCY_NS.items():
        every.add(Quantity.LATENCY, pair, Figure(ns, spread))
        for quantity in list(Quantity)[1:]:
            every.add(quantity, pair, Figure(9000 / ns, spread))
    every.loads[0, 1] = [Load(1.0, Figure(141.0, 0.0)), Load(30.0, Figure(240.0, 0.0))]
    return every


def machine_of(every, *, host=BARE, others_share=0.0, on=THREE):
    when = Circumstances("2026-11-20 20:30 UTC", "numad-py calibrate", "6.18", host, others_share)
    return result.machine_file(every, on, when, {4096: 1300.0}, 40_000)


def test_a_simulation_reads_what_was_measured(tmp_path):
    path = tmp_path / "machine.yaml"
    machines.write(path, machine_of(found()))

    prices = cost.read(path)

    assert prices.latency_ns[:2].tolist() == [[90, 140, 250], [142, 91, 300]]
    assert (prices.move_ns, prices.call_ns) == (((4096, 1300.0),), 40_000)
    assert machines.read(path) == machine_of(found())


def test_a_node_that_nothing_runs_on_repeats_its_column_beside_the_best_local_figure():
    machine = machine_of(found())

    assert machine.latency_ns[2] == (250.0, 300.0, 90.0)
    assert "latency_ns: 3 figures could not be measured and repeat others" in machine.measured.doubts
    assert machine.bandwidth.read_gb_per_s[2] == (None, None, None)


def test_a_pair_that_nobody_measured_is_taken_for_the_worst():
    assert result.latency_matrix({(0, 0): 90.0, (0, 2): 200.0}, (0, 1, 2))[1] == (200.0, 90.0, 200.0)


def test_loads_are_points_of_a_curve():
    (curve,) = machine_of(found()).loaded_latency

    assert (curve.initiator, curve.target) == (0, 1)
    assert list(zip(curve.gb_per_s, curve.latency_ns, strict=True)) == [(1.0, 141.0), (30.0, 240.0)]


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"others_share": 0.2}, "others used 20% of the CPU time"),
        ({"host": Host("Some CPU", "", "KVMKVMKVM", virtual=True)}, "measured in a virtual machine"),
    ],
)
def test_circumstances_that_spoil_figures_are_doubts(change, doubt):
    sure, unsure = machine_of(found()), machine_of(found(), **change)

    assert [each for each in unsure.measured.doubts if each.startswith(doubt)]
    assert len(unsure.measured.doubts) == len(sure.measured.doubts) + 1


@pytest.mark.parametrize(
    ("every", "doubt"),
    [
        (found(spread=0.3), "latency: the repetitions of 6 of 6 pairs spread by up to 30%"),
        (
            found(huge=0.5),
            "node 2: 50% of the memory was in huge pages, so latency includes address translation",
        ),
    ],
)
def test_figures_that_are_spoilt_are_doubts(every, doubt):
    assert doubt in machine_of(every).measured.doubts


def test_of_quiet_bare_metal_with_cpus_everywhere_nothing_is_doubted():
    every, two = found(), Site(topology(2), {0: (0,), 1: (2,)}, {0: GIB, 1: GIB}, {0: GIB, 1: GIB})
    for by_pair in every.figures.values():
        for pair in [(0, 2), (1, 2)]:
            del by_pair[pair]

    assert machine_of(every, on=two).measured.doubts == ()


def test_company_is_what_others_used_of_all_cpu_time():
    before, after = CpuUse(100.0, 50.0, 10.0), CpuUse(200.0, 90.0, 40.0)

    assert company.others_share(before, after) == pytest.approx(0.1)


def test_counters_that_went_by_in_ticks_never_give_less_than_nothing():
    now = CpuUse.now()

    assert company.others_share(now, now) == 0.0


def test_a_sweep_of_this_machine_measures_every_pair():
    here = site.read()
    small = Site(here.topology, here.cores, *(dict.fromkeys(here.targets, 2 << 20) for _ in range(2)))
    sweep = Sweep(small, Effort(repetitions=3, steps=1000, window_s=0.002))
    labels = []

    every = run(sweep, lambda steps: (labels.append(str(step)) or step for step in steps))

    assert set(every.figures[Quantity.LATENCY]) == set(small.pairs)
    assert set(every.figures[Quantity.COPY]) == set(small.pairs)
    assert set(every.huge_share) == set(small.targets)
    assert len(labels) == len(sweep.steps())
    assert all(np.isfinite(each.median) for by_pair in every.figures.values() for each in by_pair.values())
