# SPDX-License-Identifier: Apache-2.0

"""What is read equals what was written, in any format, whatever the ticks hold."""

import gzip
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Ending, Outcome
from numad_py.trace import AnotherTopology, Header, Writer, read
from tests.builders import (
    TWO_NODES,
    drawn_runs,
    job,
    move,
    plain,
    process,
    regions,
    snapshot,
    tick,
    topology,
)

HEADER = Header(TWO_NODES, "6.1.0-18-amd64", "5b0e", 1.7e9, ("numa_maps",))


def written(path, ticks, header=HEADER):
    with Writer(path, header) as writer:
        for each in ticks:
            writer.write(each)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def look(time_s, *rows, **told):
    return tick(snapshot(time_s, processes=[process(regions=regions(*rows, **told))]))


@given(run=drawn_runs(), keyframe_every=st.integers(1, 3), ending=st.sampled_from(["", ".gz", ".zst"]))
def test_what_is_read_equals_what_was_written(run, keyframe_every, ending):
    on = run[0].snapshot.topology if run else TWO_NODES
    header = replace(HEADER, topology=on, keyframe_every=keyframe_every)

    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / f"trace.jsonl{ending}", run, header)
        found, ticks = read(path)

        assert found == header
        assert [plain(each) for each in ticks] == [plain(each) for each in run]


@pytest.mark.parametrize(("ending", "opened"), [("", open), (".gz", gzip.open), (".zst", zstandard.open)])
def test_the_ending_chooses_the_compression(tmp_path, ending, opened):
    path = written(tmp_path / f"trace.jsonl{ending}", [look(1.0, {0: 5})])

    with opened(path, "rb") as file:
        types = [json.loads(line)["type"] for line in file.read().splitlines()]

    assert types == ["header", "tick"]


def test_unchanged_regions_are_not_written_again(tmp_path):
    path = written(tmp_path / "t", [look(1.0, {0: 5}), look(2.0, {0: 5})])

    first, second = (line["jobs"][0]["processes"][0] for line in lines(path)[1:])

    assert "regions" in first
    assert not {"regions", "changes"} & second.keys()


def test_a_moved_page_costs_one_recounted_row(tmp_path):
    path = written(tmp_path / "t", [look(1.0, {0: 5}, {0: 7}), look(2.0, {0: 5}, {0: 4, 1: 3})])

    changes = lines(path)[2]["jobs"][0]["processes"][0]["changes"]

    assert changes == {"recount": {"row": [1], "anon_pages": [7], "pages": [[4], [3]]}}


def test_a_row_that_is_anything_else_than_before_is_gone_and_new(tmp_path):
    path = written(tmp_path / "t", [look(1.0, {0: 5}, mapmax=1), look(2.0, {0: 5}, mapmax=2)])

    changes = lines(path)[2]["jobs"][0]["processes"][0]["changes"]

    assert changes.keys() == {"gone", "new"}
    assert changes["gone"] == [0]
    assert changes["new"]["mapmax"] == [2]


def test_a_process_may_lose_all_its_regions_and_gain_others(tmp_path):
    run = [look(1.0, {0: 5}), look(2.0), look(3.0), look(4.0, {1: 6}, {0: 1})]

    _, ticks = read(written(tmp_path / "t", run))

    assert [plain(each) for each in ticks] == [plain(each) for each in run]


def test_every_so_many_ticks_everything_is_written_again(tmp_path):
    ticks = [look(float(time_s), {0: 5}) for time_s in range(5)]

    path = written(tmp_path / "t", ticks, replace(HEADER, keyframe_every=2))

    assert [line["keyframe"] for line in lines(path)[1:]] == [True, False, True, False, True]
    assert ["regions" in line["jobs"][0]["processes"][0] for line in lines(path)[1:]] == [
        line["keyframe"] for line in lines(path)[1:]
    ]


def test_a_process_that_two_jobs_were_seen_to_hold_is_read_as_written(tmp_path):
    """It changed its cgroup between the reading of one and of the other."""
    one = process(regions=regions({0: 5}))
    other = process(regions=regions({0: 2}, {1: 9}))
    run = [tick(snapshot(float(time_s), jobs=[job(one), job(other, cgroup_id=2)])) for time_s in range(3)]

    _, ticks = read(written(tmp_path / "t", run))

    assert [plain(each) for each in ticks] == [plain(each) for each in run]


def test_numpy_scalars_are_written_as_numbers(tmp_path):
    moved = Outcome(Ending.DONE, moved_bytes=np.int64(4096), took_s=np.float32(0.5))
    one = process(pages={0: 1})

    _, ticks = read(written(tmp_path / "t", [tick(moves=[move(one)], outcomes=[moved])]))

    assert next(ticks).outcomes[0].moved_bytes == 4096


def test_what_is_no_number_is_refused(tmp_path):
    odd = Outcome(Ending.DONE, moved_bytes=object())

    with pytest.raises(TypeError, match="cannot hold"):
        written(tmp_path / "t", [tick(moves=[move(process())], outcomes=[odd])])


def test_arrays_read_from_a_trace_are_read_only(tmp_path):
    _, ticks = read(written(tmp_path / "t", [look(1.0, {0: 5}, {0: 6}), look(2.0, {0: 5}, {0: 4})]))

    for each in ticks:
        found = each.snapshot.jobs[0].processes[0]
        for array in (*vars(found.regions).values(), found.threads.cpu_s, each.snapshot.memory.free_bytes):
            assert not array.flags.writeable


def test_a_tick_of_another_topology_is_refused(tmp_path):
    with pytest.raises(AnotherTopology, match="begin another trace"):
        written(tmp_path / "t", [tick(snapshot(on=topology(3)))])


def test_moves_without_outcomes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="0 outcomes for 1 moves"):
        written(tmp_path / "t", [tick(moves=[move(process())], outcomes=[])])


def test_regions_that_a_keyframe_only_repeats_are_the_very_ones_of_before(tmp_path):
    """Long traces take no more memory than short ones, and a replay need not look at them again."""
    run = [look(1.0, {0: 5}), look(2.0, {0: 5}), look(3.0, {0: 6})]

    _, ticks = read(written(tmp_path / "t", run, replace(HEADER, keyframe_every=1)))

    first, second, third = (each.snapshot.processes[0].regions for each in ticks)
    assert second is first
    assert third.pages.tolist() == [[6, 0]]
