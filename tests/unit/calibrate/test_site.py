# SPDX-License-Identifier: Apache-2.0

"""What to measure follows from what is ours: cores, nodes, free memory; the rest is said."""

import pytest

from numad_py.calibrate import CannotCalibrate, site
from numad_py.calibrate.site import MB, Cpu
from numad_py.kernel.caches import Cache
from tests.builders import GIB, topology


def cpus(*numbers, threads=1, last_level=32 * MB):
    """Give CPUs of which so many in a row make a core, all of them on one last-level cache."""
    every = tuple(numbers)
    cores = {number: every[index // threads * threads :][:threads] for index, number in enumerate(every)}
    return {
        number: Cpu(number, (Cache(1, cores[number], 48 << 10), Cache(3, every, last_level)))
        for number in every
    }


def test_every_node_with_cpus_starts_and_every_node_with_memory_is_met():
    on = topology(3, cpuless=(2,))

    found = site.plan(on, cpus(0, 1, 2, 3), dict.fromkeys(range(3), 64 * GIB), gpu=False)

    assert found.pairs == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    assert found.doubts == ()


def test_one_thread_of_a_core_measures():
    found = site.plan(topology(1, cpus=4), cpus(0, 1, 2, 3, threads=2), {0: 64 * GIB}, gpu=False)

    assert found.cores == {0: (0, 2)}


def test_cpus_that_are_not_ours_are_left_alone():
    found = site.plan(topology(2), cpus(1), {0: 64 * GIB, 1: 64 * GIB}, gpu=False)

    assert found.cores == {0: (1,)}


def test_without_known_caches_every_cpu_is_a_core():
    bare = {number: Cpu(number, ()) for number in (0, 1)}

    found = site.plan(topology(1), bare, {0: 64 * GIB}, gpu=False)

    assert (found.cores, found.chain_bytes) == ({0: (0, 1)}, {0: 512 * MB})


def test_memory_is_several_times_as_large_as_the_caches_before_it():
    found = site.plan(
        topology(1, cpus=4), cpus(0, 1) | cpus(2, 3, last_level=96 * MB), {0: 64 * GIB}, gpu=False
    )

    assert (found.chain_bytes[0], found.stream_bytes[0]) == (8 * 96 * MB, 8 * (32 + 96) * MB)


def test_no_more_than_a_quarter_of_what_is_free_is_taken_and_that_is_said():
    found = site.plan(topology(1), cpus(0, 1), {0: 2 * GIB}, gpu=False)

    assert found.chain_bytes[0] + found.stream_bytes[0] <= GIB // 2
    assert found.doubts == (
        "node 0: only 256 and 256 MB were used, a quarter of what is free, so caches may have answered",
    )


def test_a_node_that_is_nearly_full_is_left_out_and_that_is_said():
    found = site.plan(topology(2), cpus(0, 1), {0: 64 * GIB, 1: 100 * MB}, gpu=False)

    assert found.targets == (0,)
    assert found.doubts == ("node 1 has too little free memory and was not measured",)


def test_nodes_without_cpus_may_be_a_gpus_memory_where_there_is_one():
    found = site.plan(topology(2, cpuless=(1,)), cpus(0, 1), {0: 64 * GIB, 1: 64 * GIB}, gpu=True)

    assert found.targets == (0,)
    assert found.doubts == ("nodes without CPUs were left out, since they may be memory of a GPU",)


@pytest.mark.parametrize("free", [{}, {0: 100 * MB}])
def test_with_too_little_memory_nothing_is_measured(free):
    with pytest.raises(CannotCalibrate, match="512 MB of free memory"):
        site.plan(topology(1), cpus(0, 1), free, gpu=False)


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_over_all_rounds_each_initiator_meets_every_target_once_and_first_itself(nodes):
    found = site.plan(
        topology(nodes), cpus(*range(2 * nodes)), dict.fromkeys(range(nodes), 64 * GIB), gpu=False
    )

    rounds = found.rounds()

    assert rounds[0] == {node: node for node in range(nodes)}
    assert sorted(pair for turn in rounds for pair in turn.items()) == list(found.pairs)
    assert all(len(set(turn.values())) == nodes for turn in rounds)


def test_one_initiator_is_never_together_with_another():
    assert site.plan(topology(1), cpus(0, 1), {0: 64 * GIB}, gpu=False).rounds() == []


def test_this_machine_can_be_planned_for():
    found = site.read()

    assert set(found.initiators) <= set(found.topology.node_ids)
