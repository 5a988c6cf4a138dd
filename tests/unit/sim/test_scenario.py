# SPDX-License-Identifier: Apache-2.0

"""A scenario is a script that is checked before it is played, and gives the same ticks every time."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from numad_py import trace
from numad_py.model import RegionKind
from numad_py.profile import ProfileError
from numad_py.sim import cost, scenario, script, shipped
from numad_py.trace.compression import decompressed
from tests.scripts import changed

SIM = Path(__file__).parents[3] / "sim"
TRACES = sorted((SIM / "traces").glob("*.jsonl*"))
SCENARIOS = sorted((SIM / "scenarios").glob("*.yaml"))
MOST_BYTES = 200_000
MB = 1 << 20

GROUP = "run: [{at_s: 0, cores: [1, 0]}], memory: [{kind: heap, mb: [10, 0]}]"
TEXT = """
about: a test
published: nothing
marks: [{mark: fitted, figures: [machine, jobs, length_s], source: made up}]
length_s: 10
machine: {cpus: [2, 2], memory_mb: [1024, 1024], file_mb: [64, 64], distances: [[10, 21], [21, 10]]}
jobs:
  - {name: one, groups: [{GROUP}]}
"""


def scripted(group=GROUP, **changes):
    """Give a scenario of one job with one such group, after ``changes`` of its text."""
    return changed(TEXT.replace("GROUP", group), **changes)


def processes(ticks):
    """Give the processes of the first job, tick by tick."""
    return [tick.snapshot.jobs[0].processes for tick in ticks]


def heap_mb(process):
    """Give MB by node of the first region."""
    return (process.regions.resident_bytes[0] // MB).tolist()


def plain(path):
    """Give a trace's lines as they were before compression, whose bytes depend on the library's version."""
    with path.open("rb") as file:
        return b"".join(decompressed(file, path))


def test_a_process_runs_where_its_phase_says():
    group = GROUP.replace(
        "[{at_s: 0, cores: [1, 0]}]", "[{at_s: 0, cores: [1, 0]}, {at_s: 5, cores: [0.5, 2]}]"
    )

    looks = [one.threads for (one,) in processes(scenario.ticks(scripted(group)))]

    assert [threads.cpu.tolist() for threads in looks[4:6]] == [[0], [0, 2, 3]]
    assert looks[5].cpu_s[0] < 0.51
    assert (looks[5].cpu_s[1:] >= 0.95).all()


def test_a_region_grows_where_its_process_runs():
    group = GROUP.replace("mb: [10, 0]", "mb: [10, 0], grows: [{at_s: 2, until_s: 4, mb_per_s: 8}]")
    group = group.replace(
        "[{at_s: 0, cores: [1, 0]}]", "[{at_s: 0, cores: [1, 0]}, {at_s: 4, cores: [0, 1]}]"
    )

    held = [heap_mb(one) for (one,) in processes(scenario.ticks(scripted(group)))]

    assert held[2:6] == [[10, 0], [18, 0], [18, 8], [18, 8]]


def test_processes_come_one_after_another_and_end():
    group = GROUP + ", processes: 3, apart_s: 2, lives_s: 3"

    alive = [len(each) for each in processes(scenario.ticks(scripted(group)))]

    assert alive == [1, 1, 2, 1, 2, 1, 1, 0, 0, 0]


def test_no_two_processes_or_threads_have_the_same_number():
    group = GROUP.replace("cores: [1, 0]", "cores: [2, 2]") + ", processes: 5"

    (first, *_) = processes(scenario.ticks(scripted(group)))

    tids = np.concatenate([one.threads.tid for one in first])
    assert len(set(tids.tolist())) == len(tids) == 20
    assert {one.key.pid for one in first} <= set(tids.tolist())


def test_memory_that_several_processes_map_is_in_use_once():
    alone = next(scenario.ticks(scripted()))
    group = GROUP.replace("mb: [10, 0]", "mb: [10, 0], mapped_by: 4") + ", processes: 4"

    together = next(scenario.ticks(scripted(group + "}, {" + group)))

    assert together.snapshot.memory.free_bytes.tolist() == alone.snapshot.memory.free_bytes.tolist()


def test_a_mapped_file_is_part_of_the_page_cache():
    mapped = scripted(GROUP.replace("kind: heap", "kind: file"))

    memory = next(scenario.ticks(mapped)).snapshot.memory

    assert memory.anon_bytes.tolist() == [0, 0]
    assert memory.file_bytes.tolist() == [64 * MB, 64 * MB]


def test_a_node_that_is_to_hold_more_than_it_has_is_named_with_the_time():
    group = GROUP.replace("mb: [10, 0]", "mb: [700, 0], grows: [{at_s: 0, until_s: 9, mb_per_s: 20}]")

    with pytest.raises(ProfileError, match="at 4 s node 0 is to hold more than it has"):
        list(scenario.ticks(scripted(group)))


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (", length_s]", "]", "marks: none is for length_s; say whether it is sourced, measured, fitted"),
        (
            "jobs, length_s]",
            "jobs.one.groups.*.run, length_s]",
            "none is for jobs.one.groups.0.memory.0.mb.0",
        ),
        ("cpus: [2, 2]", "cpus: [2]", "cpus: found a list; as many figures"),
        ("memory_mb: [1024, 1024]", "memory_mb: [1024, 0]", "every node needs memory"),
        ("at_s: 0", "at_s: 1", "run: found a list; the first phase begins at_s: 0"),
        ("cores: [1, 0]", "cores: [3, 0]", "one: a process runs on more cores than a node has"),
        ("cores: [1, 0]", "cores: [1]", "one: a figure for each of the 2 nodes is needed"),
        ("mb: [10, 0]", "mb: [-1, 0]", "mb: found a list; none is below 0"),
        ("mb: [10, 0]", "mb: [1, 0], page_kb: 0", "at least 1"),
        ("[{kind: heap, mb: [10, 0]}]", "[]", "memory: found a list; a region is needed"),
        ("mb: [10, 0]", "mb: [1, 0], grows: [{at_s: 1, until_s: 2, mb_per_s: -9}]", "nothing grows by less"),
        ("length_s: 10", "length_s: 0.5", "at least one look is needed"),
        ("mark: fitted", "mark: guessed", "sourced, measured, fitted"),
        (
            "[{at_s: 0, cores: [1, 0]}]",
            "[{at_s: 0, cores: [1, 0]}, {at_s: 0, cores: [0, 1]}]",
            "each phase begins after the one before",
        ),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(was, now, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        scripted(**{was: now})


def test_a_scenario_is_found_by_name_or_path_and_else_all_names_are_told():
    assert shipped.find("scenarios", "two-nodes") == SIM / "scenarios" / "two-nodes.yaml"
    assert shipped.find("scenarios", "./mine.yaml") == Path("mine.yaml")
    assert shipped.names("scenarios") == tuple(sorted(path.stem for path in SCENARIOS))
    with pytest.raises(ProfileError, match="before-fork, bound-to-node-0"):
        shipped.find("scenarios", "two-nodez")


def test_a_held_scenario_is_found_and_refused_and_not_named():
    held = shipped.find("scenarios", "late-binding")

    assert held.parent == SIM / "scenarios" / "held"
    assert "late-binding" not in shipped.names("scenarios")
    with pytest.raises(ProfileError, match=r"late-binding.yaml: is held: only an evaluation reads it"):
        script.read(held)


def test_making_the_shipped_trace_again_gives_the_same_lines(tmp_path):
    written = script.read(SIM / "scenarios" / "two-nodes.yaml")

    with trace.Writer(tmp_path / "again.jsonl", written.header("two-nodes")) as writer:
        for tick in scenario.ticks(written):
            writer.write(tick)

    assert plain(tmp_path / "again.jsonl") == plain(SIM / "traces" / "two-nodes.jsonl.zst")


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
def test_every_shipped_trace_is_small_and_has_its_source_and_checksum(path):
    text = (SIM / "traces" / "SOURCES.md").read_text()
    sources = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", text, re.MULTILINE))

    assert path.stat().st_size < MOST_BYTES
    assert sources[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


SLOW = """
source: made up
latency_ns: [[100, 300], [300, 100]]
memory_share: 0.2
parallel_accesses: 2
"""


def test_a_scenario_costs_what_its_machine_costs_unless_another_is_asked_for(tmp_path):
    (tmp_path / "slow.yaml").write_text(SLOW)
    by_itself = scripted(**{"length_s: 10": "length_s: 10\nplayed_on: two-socket-epyc-7742"})

    own, other = (
        scenario.prices(by_itself, by_itself.header("here"), machine)
        for machine in (None, tmp_path / "slow.yaml")
    )

    assert (own.latency_ns[0, 0], other.latency_ns[0, 0]) == (134, 100)
    assert scenario.prices(scripted(), scripted().header("here")).latency_ns[0, 0] == cost.LOCAL_NS


def test_what_a_scenario_knows_of_its_work_counts_on_every_machine_and_at_both_ends(tmp_path):
    (tmp_path / "slow.yaml").write_text(SLOW)
    knowing = scripted(
        **{"length_s: 10": "length_s: 10\nmemory_share: 0.4", "length_s]": "length_s, memory_share]"}
    )

    prices = scenario.prices(knowing, knowing.header("here"), tmp_path / "slow.yaml")

    assert [each.memory_share for each in (prices, *prices.ends)] == [0.4] * 3
    assert [each.parallel_accesses for each in (prices, *prices.ends)] == [2.0] * 3


@pytest.mark.parametrize(
    ("machine", "said"), [("nowhere", "'nowhere' in machines"), ("two-socket-epyc-7601", "found 8 nodes")]
)
def test_a_machine_that_is_not_there_or_has_other_nodes_is_refused(machine, said):
    elsewhere = scripted(**{"length_s: 10": f"length_s: 10\nplayed_on: {machine}"})

    with pytest.raises(ProfileError, match=said):
        scenario.prices(elsewhere, elsewhere.header("here"))


def test_regions_are_ascending_and_apart():
    group = GROUP.replace(
        "memory: [", "memory: [{kind: file, mb: [1, 1], mapped_by: 2}, {mb: [0, 4], page_kb: 2048}, "
    )

    ((one,), *_) = processes(scenario.ticks(scripted(group)))

    regions = one.regions
    assert (regions.start[1:] >= regions.end[:-1]).all()
    assert regions.page_bytes.tolist() == [4096, 2 * MB, 4096]
    assert regions.kind.tolist() == [RegionKind.FILE, RegionKind.ANON, RegionKind.HEAP]
