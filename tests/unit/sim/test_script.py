# SPDX-License-Identifier: Apache-2.0

"""What a script says of its machine and jobs stands in the ticks, and in the trace that is written of them."""

import re

import numpy as np
import pytest

from numad_py import trace
from numad_py.model import MovePages, Reason
from numad_py.profile import ProfileError
from numad_py.sim import scenario
from numad_py.sim.cost import default_prices
from numad_py.sim.moving import carry_out
from numad_py.topology import DeviceKind
from tests.scripts import changed

MB = 1 << 20
GROUP = "run: [{at_s: 0, cores: [2, 2]}], memory: [{kind: heap, mb: [8, 0]}]"
TEXT = """
about: a test
published: nothing
marks: [{mark: fitted, figures: [machine, jobs, length_s, memory_share], source: made up}]
length_s: 10
machine: {cpus: [4, 4], memory_mb: [1024, 1024], file_mb: [64, 64], distances: [[10, 21], [21, 10]]}
jobs:
  - {name: one, groups: [{GROUP}]}
"""
TOUCHED = GROUP.replace("mb: [8, 0]", "mb: [8, 0], touched_by: [[1, 0], [0, 1]]") + ", investigated_s: 3"


def scripted(group=GROUP, **changes):
    """Give a scenario of one job with one such group, after ``changes`` of its text."""
    return changed(TEXT.replace("GROUP", group), **changes)


def first_process(ticks):
    return [tick.snapshot.jobs[0].processes[0] for tick in ticks]


def again(scenario_, path):
    """Give what a trace of it says."""
    with trace.Writer(path, scenario_.header("here")) as writer:
        for tick in scenario.ticks(scenario_):
            writer.write(tick)
    return list(trace.read(path)[1])


def test_siblings_are_half_a_node_apart_and_threads_take_cores_first():
    siblings = scripted(**{"cpus: [4, 4]": "cpus: [4, 4], threads_per_core: 2"})

    on = siblings.machine.topology
    (one, *_) = first_process(scenario.ticks(siblings))

    assert on.cores == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert on.cores_by_node.tolist() == [2, 2]
    assert one.threads.cpu.tolist() == [0, 1, 4, 5]


def test_without_siblings_cores_are_not_told():
    assert scripted().machine.topology.cores == ()


def test_a_process_has_the_gpus_that_hang_on_their_nodes():
    machine = {"cpus: [4, 4]": "cpus: [4, 4], gpus: [0, 1, 1]"}

    ticks = list(scenario.ticks(scripted(GROUP + ", gpus: [0, 2]", **machine)))

    devices = {each.address: (each.kind, each.node) for each in ticks[0].snapshot.topology.devices}
    assert [devices[address] for address in first_process(ticks)[0].gpus] == [
        (DeviceKind.GPU, 0),
        (DeviceKind.GPU, 1),
    ]
    assert len(devices) == 3


def test_a_barrier_is_the_jobs(tmp_path):
    waiting = scripted(**{"name: one,": "name: one, barrier: true,"})

    (job, *_), (other, *_) = (
        again(each, tmp_path / f"{number}.jsonl")[0].snapshot.jobs
        for number, each in enumerate((waiting, scripted()))
    )

    assert (job.barrier, other.barrier) == (True, False)


def test_phases_begin_anew():
    turns = "repeat_s: 4, run: [{at_s: 0, cores: [1, 0]}, {at_s: 3, cores: [0, 1]}], memory: [{mb: [8, 0]}]"

    cpus = [one.threads.cpu.tolist() for one in first_process(scenario.ticks(scripted(turns)))]

    assert cpus == [[0], [0], [0], [4], [0], [0], [0], [4], [0], [0]]


def test_who_touches_what_is_told_once_and_kept_by_a_trace(tmp_path):
    ticks = again(scripted(TOUCHED), tmp_path / "told.jsonl")

    told = [one.accesses for one in first_process(ticks)]

    assert [number for number, each in enumerate(told) if each is not None] == [3]
    assert [group.node for group in told[3].groups] == [0, 1]


def test_an_investigation_waits_for_threads_that_run():
    late = TOUCHED.replace(
        "[{at_s: 0, cores: [2, 2]}]", "[{at_s: 0, cores: [0, 0]}, {at_s: 6, cores: [1, 0]}]"
    )

    told = [one.accesses for one in first_process(scenario.ticks(scripted(late)))]

    assert [number for number, each in enumerate(told) if each is not None] == [6]
    assert [group.node for group in told[6].groups] == [0]


def test_no_move_gets_past_pinned_memory_and_it_is_in_use_once():
    pinned = GROUP.replace("mb: [8, 0]", "mb: [8, 0], pinned: true")
    first, free = (next(scenario.ticks(scripted(each))).snapshot for each in (pinned, GROUP))
    held = first.processes[0]

    everything = MovePages(
        held.key,
        held.regions.start,
        held.regions.end,
        held.regions.page_bytes,
        (0,),
        (1,),
        8 * MB,
        Reason.MEMORY_FOLLOWS_CPU,
    )
    outcome, _ = carry_out(
        everything, held.regions, {0: 0, 1: 1}, np.full(2, 512 * MB), 10**12, default_prices(first.topology)
    )

    assert (outcome.moved_bytes, outcome.failed) == (0, {"EACCES": 2048})
    assert held.regions.movable.all()
    assert first.memory.free_bytes.tolist() == free.memory.free_bytes.tolist()


@pytest.mark.parametrize(
    ("group", "machine", "said"),
    [
        (GROUP, "threads_per_core: 3", "the CPUs of every node are whole cores"),
        (GROUP, "threads_per_core: 0", "at least 1"),
        (GROUP, "gpus: [2]", "each hangs on a node, counted from 0"),
        (GROUP + ", gpus: [1]", "gpus: [0]", "one: a GPU is one of the machine's gpus"),
        (GROUP + ", repeat_s: 0", "gpus: []", "the last phase begins before it"),
        (GROUP + ", investigated_s: 3", "gpus: []", "it and touched_by of a memory go together"),
        (TOUCHED.replace(", investigated_s: 3", ""), "gpus: []", "it and touched_by of a memory go together"),
        (TOUCHED.replace("[1, 0], [0, 1]", "[1]"), "gpus: []", "a figure for each of the 2 nodes is needed"),
        (TOUCHED.replace("[1, 0], [0, 1]", "[1, -1]"), "gpus: []", "less often than never"),
    ],
)
def test_what_makes_no_sense_is_refused(group, machine, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        scripted(group, **{"cpus: [4, 4]": f"cpus: [4, 4], {machine}"})


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("memory_share: 1.1", "a share is between 0 and 1"),
        ("memory_share: -0.1", "a share is between 0 and 1"),
        ("parallel_accesses: 0", "more than 0 are needed"),
    ],
)
def test_work_that_makes_no_sense_is_refused(figure, said):
    with pytest.raises(ProfileError, match=said):
        scripted(**{"length_s: 10": f"length_s: 10\n{figure}"})


def test_figures_of_the_work_need_a_mark():
    with pytest.raises(ProfileError, match="none is for parallel_accesses"):
        scripted(**{"length_s: 10": "length_s: 10\nparallel_accesses: 4"})
