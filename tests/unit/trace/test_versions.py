# SPDX-License-Identifier: Apache-2.0

"""What an earlier version recorded is read for ever; of a later minor version what is new is passed over, and told once."""

import json
import re
from pathlib import Path

import pytest
import zstandard
from typer.testing import CliRunner

from numad_py.cli.main import application
from numad_py.model import ProcessKey
from numad_py.trace import Header, RingWriter, TraceError, read
from tests.builders import TWO_NODES, process, snapshot, tick

RECORDED = Path(__file__).parents[2] / "recorded/traces"


def later(path, added, *, names=("heat", "wattage"), minor=3):
    """Write the oldest recording as a later minor version would, with columns that ``added`` puts in."""
    with zstandard.open(RECORDED / "v0.0.jsonl.zst", "rb") as file:
        header, *ticks = map(json.loads, file.read().splitlines())
    header |= {"minor": minor, "columns_added": list(names)}
    for line in ticks:
        added(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *ticks]))
    return path


def heated(line):
    line["wattage"] = {"node": [3.5, None]}
    for job in line["jobs"]:
        for each in job["processes"]:
            each["heat"] = [[1, 2], []]


def shape(path):
    return [
        (each.snapshot.time_s, [one.regions.pages.sum(axis=0).tolist() for one in each.snapshot.processes])
        for each in read(path)[1]
    ]


def test_what_version_0_0_recorded_is_read_as_it_was():
    header, ticks = read(RECORDED / "v0.0.jsonl.zst")
    run = list(ticks)

    (seen,) = run[-1].snapshot.processes
    assert header.kernel == "6.1.0"
    assert (len(run), run[-1].snapshot.time_s) == (22, 66.94280849)
    assert (seen.key, len(seen.regions)) == (ProcessKey(2, 0), 87)
    assert seen.regions.resident_bytes.sum(axis=0).tolist() == [1601536, 221364224]
    assert sum(outcome.moved_bytes for each in run for outcome in each.outcomes) == 213397504
    assert sum(cpu_s for each in run for cpu_s in each.snapshot.cpu_s.sum(axis=1)) == pytest.approx(18.42)


def test_what_version_1_0_recorded_is_read_as_it_was():
    header, ticks = read(RECORDED / "v1.0.jsonl.zst")
    run = list(ticks)

    told = [each.accesses for one in run for each in one.snapshot.processes if each.accesses]
    assert header.kernel == "6.12.95"
    assert (len(run), len(told)) == (62, 1)
    assert sum(int(each.counts.sum()) for each in told) == 8
    assert sum(cpu_s for each in run for cpu_s in each.snapshot.cpu_s.sum(axis=1)) == pytest.approx(98.53)


def test_what_version_1_1_recorded_is_read_as_it_was():
    header, ticks = read(RECORDED / "v1.1.jsonl.zst")
    run = list(ticks)

    assert (header.kernel, header.ignored) == ("6.18.44", ())
    assert len(run) == 6
    assert [outcome.moved_threads for outcome in run[0].task_outcomes] == [4, 0]
    assert [outcome.failed for outcome in run[0].task_outcomes] == [{}, {"bound": 1}]


def test_what_version_1_2_recorded_is_read_as_it_was():
    header, ticks = read(RECORDED / "v1.2.jsonl.zst")
    moves = [move for each in ticks for move in each.plan.moves]

    assert header.ignored == ()
    assert [sorted(move.figures) for move in moves] == [
        ["cpu_s", "home_cpu_share", "looks", "remote_mb", "remote_share"]
    ] * len(moves)
    assert [round(move.figures["remote_share"], 3) for move in moves] == [0.987, 0.474, 0.043]


def test_columns_of_a_later_minor_version_change_nothing(tmp_path):
    path = later(tmp_path / "later.jsonl", heated)

    assert read(path)[0].ignored == ("heat", "wattage")
    assert shape(path) == shape(RECORDED / "v0.0.jsonl.zst")


def test_they_are_told_once(tmp_path):
    path = later(tmp_path / "later.jsonl", heated)

    told = (
        CliRunner()
        .invoke(application(), ["simulate", str(path), "--policy", "hold"], catch_exceptions=False)
        .stderr
    )

    assert told == f"numad-py: {path}: columns of a later version, not looked at: heat, wattage\n"


def test_a_new_column_of_the_header_is_passed_over_too(tmp_path):
    path = later(tmp_path / "later.jsonl", heated, names=("heat", "wattage", "dialect"))
    path.write_text(path.read_text().replace("{", '{"dialect": 7, ', 1))

    assert read(path)[0].ignored == ("dialect", "heat", "wattage")


@pytest.mark.parametrize("announced", [{"names": ("heat",)}, {"minor": 0}])
def test_a_column_that_the_header_does_not_announce_is_damage(tmp_path, announced):
    """A damaged name must not pass for a new column, and what it stood for as left out."""
    path = later(tmp_path / "later.jsonl", heated, **announced)

    with pytest.raises(TraceError, match="line 2: Object contains unknown field `wattage`"):
        shape(path)


def test_no_header_can_have_a_column_that_is_known_passed_over(tmp_path):
    path = later(tmp_path / "later.jsonl", lambda _: None, names=("regions", "cpu_s"))

    assert read(path)[0].ignored == ()
    assert shape(path) == shape(RECORDED / "v0.0.jsonl.zst")


@pytest.mark.parametrize("digits", [30, 309, 400, 5000])
def test_a_number_beyond_all_floats_is_damage_beside_new_columns_too(tmp_path, digits):
    path = later(tmp_path / "later.jsonl", heated)
    path.write_text(re.sub(r'"time_s": [0-9.]+', f'"time_s": {"9" * digits}', path.read_text(), count=1))

    with pytest.raises(TraceError, match="line 2: "):
        shape(path)


def test_a_ring_tells_what_is_new_in_any_of_its_segments(tmp_path):
    """The daemon was replaced by a later one, which went on with the ring."""
    header = Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9)
    for number in (1, 2):
        with RingWriter(tmp_path / "ring.jsonl", header, 1 << 20) as writer:
            writer.write(tick(snapshot(float(number), processes=[process(pages={0: 1})])))
    newest = tmp_path / "ring.000002.jsonl"
    first, second = map(json.loads, newest.read_text().splitlines())
    first |= {"minor": 3, "columns_added": ["wattage"]}
    second["wattage"] = 1
    newest.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")

    assert read(tmp_path / "ring.jsonl")[0].ignored == ("wattage",)
    assert len(shape(tmp_path / "ring.jsonl")) == 2
