# SPDX-License-Identifier: Apache-2.0

"""Damage is told in one sentence with the line's number, or passed over up to the next keyframe."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Accesses, AccessSource, ThreadGroup
from numad_py.trace import Gap, Header, Passed, TraceError, Writer, read
from numad_py.trace.wire import Kind
from tests.builders import TWO_NODES, move, process, regions, snapshot, tick

HEADER = Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9, keyframe_every=3)
ENDINGS = ["", ".gz", ".zst"]


def look(number):
    changing = process(regions=regions({0: 5}, {0: 9 - number, 1: number}))
    return tick(snapshot(float(number), processes=[changing]), moves=[move(changing)])


def trace(path, ticks=9):
    with Writer(path, HEADER) as writer:
        for number in range(ticks):
            writer.write(look(number))
    return path


@pytest.fixture
def path(tmp_path):
    """Hold a trace of nine ticks; tick n is on line n + 2, keyframes are 0, 3 and 6."""
    return trace(tmp_path / "trace.jsonl")


def change(path, number, edit):
    """Edit one line in place."""
    lines = path.read_text().splitlines()
    line = json.loads(lines[number - 1])
    edit(line)
    lines[number - 1] = json.dumps(line)
    path.write_text("\n".join(lines) + "\n")


def process_of(line):
    return line["jobs"][0]["processes"][0]


def times(path, **how):
    return [each.snapshot.time_s for each in read(path, **how)[1]]


def error(path):
    with pytest.raises(TraceError) as caught:
        times(path)
    return caught.value


def test_the_error_is_one_sentence_with_the_line_number(path):
    change(path, 4, lambda line: line.update(tim_s=1))

    assert str(error(path)) == (
        f"{path}, line 4: Object contains unknown field `tim_s`; --lenient goes on behind it, at the next keyframe"
    )


def test_ticks_before_the_damage_are_given(path):
    change(path, 4, lambda line: line.pop("time_s"))
    _, ticks = read(path)

    assert [next(ticks).snapshot.time_s, next(ticks).snapshot.time_s] == [0, 1]
    with pytest.raises(TraceError, match=r"line 4: .*time_s"):
        next(ticks)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda line: process_of(line)["regions"]["kind"].pop(), "kind has 1 values where 2 belong"),
        (lambda line: process_of(line)["regions"]["pages"][0].pop(), "pages has 1 values where 2"),
        (lambda line: process_of(line)["regions"]["pages"].pop(), "pages of 1 nodes on a machine with 2"),
        (lambda line: process_of(line)["regions"]["start"].reverse(), "do not ascend"),
        (lambda line: process_of(line)["regions"]["kind"].__setitem__(0, 9), "<= 3"),
        (lambda line: process_of(line)["regions"]["pages"][0].__setitem__(0, -1), ">= 0"),
        (lambda line: process_of(line)["regions"]["pages"][0].__setitem__(0, 2**63), "out of range|<="),
        (lambda line: process_of(line)["regions"]["pages"][0].__setitem__(0, 1.5), "Expected `int`"),
        (
            lambda line: process_of(line)["regions"]["pages"][0].__setitem__(slice(1), [True]),
            "Expected `int`",
        ),
        (lambda line: process_of(line).pop("regions"), "no regions here, and none since the last keyframe"),
        (lambda line: process_of(line)["threads"]["tid"].append(1), "cpu has 0 values where 1 belong"),
        (lambda line: line["memory"]["free_bytes"].pop(), "free_bytes has 1 values where 2 belong"),
        (lambda line: line["plan"]["moves"].clear(), "1 outcomes for 0 moves"),
        (
            lambda line: line.update(task_outcomes=line["outcomes"]),
            "1 outcomes for 0 moves of tasks",
        ),
        (lambda line: line["plan"]["moves"][0].update(reason="whim"), "reason"),
        (lambda line: line["plan"]["moves"][0]["end"].pop(), "end has 1 values where 2 belong"),
        (lambda line: line.update(time_s=1.5), "time goes back from 2.0 s to 1.5 s"),
        (lambda line: line.update(time_s=2.0), "time stands still at 2.0 s"),
        (lambda line: line.update(time_s=-1.0), "`float` >= 0.0"),
        (lambda line: line.update(time_s=1e300), "<= 1000000000000.0"),
        (lambda line: line["memory"]["free_bytes"].__setitem__(0, 1 << 40), "free_bytes of 1099511627776 on"),
        (lambda line: line["memory"]["total_bytes"].__setitem__(0, 1 << 60), "total_bytes"),
        (
            lambda line: process_of(line)["regions"]["pages"][1].__setitem__(0, 1 << 62),
            "a region of [0-9]+ resident bytes on a machine of 2147483648 bytes",
        ),
        (lambda line: process_of(line)["regions"]["page_bytes"].__setitem__(0, 0), ">= 1"),
        (
            lambda line: process_of(line).update(threads={"tid": [7], "cpu": [0], "cpu_s": [2000.0]}),
            "a thread of process 1000 used 2000 s of CPU in 603 s at most",
        ),
        (
            lambda line: process_of(line).update(threads={"tid": [7], "cpu": [0], "cpu_s": [-0.5]}),
            "`float` >= 0.0",
        ),
        (lambda line: line.update(time_s=float("nan")), "malformed"),
        (lambda line: line.update(number=4), "tick 4 where tick 3 belongs"),
        (lambda line: line.update(type="tock"), "tock"),
    ],
)
def test_a_line_that_cannot_be_is_told(path, edit, what):
    change(path, 5, edit)

    with pytest.raises(TraceError, match=f"line 5: .*({what})"):
        times(path)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (
            lambda told: told["groups"][0].update(node=99),
            "threads that ran on node 99, which the machine does",
        ),
        (lambda told: told["groups"].clear(), "counts of 1 groups where 0 belong"),
    ],
)
def test_accesses_that_do_not_fit_are_told(tmp_path, edit, what):
    groups = (ThreadGroup(1, np.array([1000]), np.array([0.0, 0.5])),)
    start = np.array([4096], np.uint64)
    seen = Accesses(AccessSource.PEBS, groups, start, start * 2, np.array([[3]]), None, 10.0)
    path = tmp_path / "trace.jsonl"
    with Writer(path, HEADER) as writer:
        writer.write(tick(snapshot(0.0, processes=[replace(process(), accesses=seen)])))
    assert times(path) == [0.0]

    change(path, 2, lambda line: edit(process_of(line)["accesses"]))

    with pytest.raises(TraceError, match=f"line 2: .*({what})"):
        times(path)


HEADER_LINE = json.dumps(
    {
        "type": "header",
        "version": 0,
        "tool_version": "0.1.0",
        "topology": {
            "nodes": [{"id": 0, "cpus": [0], "total_bytes": 1}],
            "distances": [[10]],
            "page_bytes": 4096,
        },
        "kernel": "6.1.0",
        "boot_id": "",
        "clock": "simulated",
        "started_unix_s": 0.0,
        "sources": [],
        "keyframe_every": 1,
        "anonymised": False,
        "move_4k_page_ns": None,
    }
)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda changes: changes.update(gone=[2]), "row 2 of a process that had 2 regions"),
        (lambda changes: changes["recount"]["row"].append(0), "anon_pages has 1 values where 2 belong"),
        (lambda changes: changes["recount"]["pages"].pop(), "pages of 1 nodes"),
        (lambda changes: changes["recount"].update(row=[2]), "row 2 of a process that had 2 regions"),
    ],
)
def test_changes_that_do_not_fit_are_told(path, edit, what):
    change(path, 3, lambda line: edit(process_of(line)["changes"]))

    with pytest.raises(TraceError, match=f"line 3: .*({what})"):
        times(path)


def test_new_regions_may_not_begin_where_one_is(path):
    def double(line):
        process_of(line)["changes"]["new"] = first["regions"]

    first = process_of(json.loads(path.read_bytes().splitlines()[1]))
    change(path, 3, double)

    assert "do not ascend" in str(error(path))


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (
            lambda line: line.update(version=7, more=1),
            "version 7 is not understood, only versions 0 to 1 are",
        ),
        (lambda line: line.update(version=-1), "version -1 is not understood"),
        (lambda line: line.update(type="tick"), "time_s|unknown field"),
        (lambda line: line["topology"]["nodes"].clear(), "no node has memory"),
        (lambda line: [node.update(gpu=True) for node in line["topology"]["nodes"]], "no node has memory"),
        (lambda line: line["topology"]["nodes"][1].update(id=0), r"a node is there twice: \[0, 0\]"),
        (lambda line: line["topology"]["nodes"][1].update(cpus=[1, 2]), "CPU 1 is there twice"),
        (lambda line: line["topology"]["nodes"][1].update(cpus=[2, 2]), "CPU 2 is there twice"),
        (lambda line: line["topology"].update(page_bytes=0), "page_bytes"),
        (lambda line: line.update(started_unix_s=1e300), "started_unix_s"),
        (lambda line: line["topology"]["nodes"].reverse(), r"do not ascend: \[1, 0\]"),
        (lambda line: line["topology"]["distances"].pop(), "not a square of 2 nodes"),
        (lambda line: line["topology"]["distances"][1].pop(), "not a square of 2 nodes"),
        (lambda line: line["topology"]["nodes"][0].update(cpus=[1 << 40]), "cpus"),
        (lambda line: line.update(clock="sundial"), "clock"),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_a_header_that_cannot_be_is_told_at_once(path, edit, what, lenient):
    change(path, 1, edit)

    with pytest.raises(TraceError, match=f"line 1: .*({what})"):
        read(path, lenient=lenient)


def test_a_file_that_begins_with_a_tick_has_no_header(path):
    path.write_bytes(path.read_bytes().partition(b"\n")[2])

    assert error(path).line == 1
    assert error(path).what == "the first line is not a header"


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_empty_file_is_no_trace(tmp_path, ending):
    path = tmp_path / f"trace{ending}"
    path.touch()

    assert str(error(path)) == (
        f"{path}, line 1: the file is empty; "
        "without its header nothing in it can be read: take another copy, or record again"
    )


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("line", "what"),
    [(HEADER_LINE, "a header in the middle of a trace"), ("[]", "Expected `object`, got `array`")],
)
def test_a_line_of_another_kind_is_told(path, line, what):
    with path.open("a") as file:
        file.write(line + "\n")

    assert error(path).line == 11
    assert error(path).what == what


def test_a_lost_line_is_noticed(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))

    assert error(path).what == "tick 2 where tick 1 belongs"


def test_a_trace_begins_with_a_keyframe(path):
    change(path, 2, lambda line: line.update(keyframe=False))

    assert error(path).what == "the first tick is not a keyframe"


def test_lenient_goes_on_at_the_next_keyframe_and_reports_the_gap(path):
    change(path, 3, lambda line: line.pop("time_s"))
    change(path, 9, lambda line: line.pop("time_s"))
    gaps = []

    assert times(path, lenient=True, on_damage=gaps.append) == [0, 3, 4, 5, 6]
    assert [(gap.line, gap.lines) for gap in gaps] == [(3, 2), (9, 2)]
    assert all("time_s" in gap.why for gap in gaps)


def ran(cpu_s):
    return lambda line: process_of(line).update(threads={"tid": [7], "cpu": [0], "cpu_s": [cpu_s]})


def test_a_thread_may_have_run_since_its_process_was_seen_first(path):
    """Threads that use little are not read at every look, and then told of all at once."""
    change(path, 8, ran(605.0))
    assert len(times(path)) == 9

    change(path, 8, ran(607.0))
    assert error(path).what == "a thread of process 1000 used 607 s of CPU in 606 s at most"


def test_where_a_ring_begins_a_thread_may_have_run_as_long_as_the_machine(tmp_path):
    def written(path, cpu_s):
        with Writer(path, HEADER) as writer:
            for time_s in (90_000.0, 90_001.0):
                writer.write(tick(snapshot(time_s, processes=[process(pages={0: 1}, cpu_s={1: cpu_s})])))
        return path

    assert len(times(written(tmp_path / "a", 80_000.0))) == 2
    assert error(written(tmp_path / "b", 91_000.0)).line == 2


def test_lenient_goes_on_at_once_behind_a_line_that_does_not_belong(path):
    """The ticks before and behind it have numbers that follow, so nothing is missing."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"nonsense\n", lines[3], *lines[4:]]))
    gaps = []

    assert times(path, lenient=True, on_damage=gaps.append) == list(range(9))
    assert [(gap.line, gap.lines, gap.kind) for gap in gaps] == [(5, 2, Kind.LINE)]


def test_lenient_counts_no_keyframe_twice(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[4], *lines[5:]]))

    assert times(path, lenient=True) == list(range(9))


def test_lenient_believes_nothing_between_a_tick_that_was_half_read_and_the_next_keyframe(path):
    """Its number would let the next one follow, but of its processes some are already those of the damaged tick."""
    change(path, 3, lambda line: process_of(line)["changes"].update(gone=[9]))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[2].replace(b"9]", b"0]"), *lines[3:]]))

    assert times(path, lenient=True) == [0, 3, 4, 5, 6, 7, 8]


def test_what_was_passed_over_is_counted_by_kind(path):
    change(path, 3, lambda line: line.update(time_s=0.0))
    change(path, 6, lambda line: line.pop("time_s"))
    change(path, 9, lambda line: line.update(time_s=0.5))
    passed = Passed()

    times(path, lenient=True, on_damage=passed)

    assert passed.values == {
        "clock": {"places": 2, "lines": 4, "first_line": 3},
        "impossible value": {"places": 1, "lines": 2, "first_line": 6},
    }
    assert passed.sentences[0] == (
        f"{path}, line 3: time stands still at 0.0 s; passed over for clock, all in all: places 2, lines 4"
    )


def test_lenient_needs_no_one_to_report_to(path):
    change(path, 3, lambda line: line.pop("time_s"))

    assert times(path, lenient=True) == [0, 3, 4, 5, 6, 7, 8]


def test_lenient_reports_lost_lines_before_a_keyframe_and_keeps_the_keyframe(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[4:]))
    gaps = []

    assert times(path, lenient=True, on_damage=gaps.append) == [0, 3, 4, 5, 6, 7, 8]
    assert gaps == [Gap(path, 3, 0, Kind.ORDER, "tick 3 where tick 1 belongs")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_cut_at_any_byte_everything_up_to_the_last_whole_line_is_read(tmp_path, ending):
    """The writer flushes every line, so what a killed daemon leaves is at worst one line short."""
    growing = tmp_path / f"growing{ending}"
    sizes = []
    with Writer(growing, HEADER) as writer:
        sizes.append(writer.size_bytes)
        for number in range(4):
            writer.write(look(number))
            sizes.append(writer.size_bytes)
    whole = growing.read_bytes()
    path = tmp_path / f"cut{ending}"

    for cut in range(sizes[-3], len(whole)):
        path.write_bytes(whole[:cut])
        complete = sum(size <= cut for size in sizes) - 1
        found = times(path, lenient=True)
        assert found[:complete] == list(range(complete))
        assert len(found) <= complete + 1  # a line may be whole but for its newline


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_cut_in_compressed_data_is_told_even_behind_a_whole_line(tmp_path, ending):
    path = tmp_path / f"trace{ending}"
    writer = Writer(path, HEADER)
    writer.write(look(0))

    assert error(path).line == 3
    assert error(path).what == "the compressed data has no end: the file was cut, or its writer was killed"
    writer.close()
    assert times(path) == [0]


def test_a_cut_line_is_told(path):
    path.write_bytes(path.read_bytes()[:-10])

    assert (error(path).line, error(path).what) == (10, "Input data was truncated")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_concatenated_compressed_files_are_one_stream(tmp_path, ending):
    path = trace(tmp_path / f"trace{ending}", 2)
    path.write_bytes(path.read_bytes() * 2)

    assert (error(path).line, error(path).what) == (4, "a header in the middle of a trace")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_garbage_behind_compressed_data_is_told(tmp_path, ending):
    path = trace(tmp_path / f"trace{ending}", 2)
    path.write_bytes(path.read_bytes() + b"garbage, not compressed at all")

    assert "line 4: the compressed data is damaged" in str(error(path))


def test_an_endless_line_is_refused(path, monkeypatch):
    monkeypatch.setattr("numad_py.trace.reader._LINE_BYTES", 5000)
    with path.open("ab") as file:
        file.write(b" " * 9000)

    assert (error(path).line, error(path).what) == (11, "a line longer than 5000 bytes")


def outcome_of_reading(data, ending, lenient):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trace{ending}"
        path.write_bytes(data)
        try:
            return list(read(path, lenient=lenient)[1])
        except TraceError as damage:
            return damage


HOSTILE = [
    b"",
    b"\n",
    b"\xff\xfe",
    b"null",
    b"[" * 200_000,
    b'{"type":' * 50_000,
    b'{"type":"header","version":' + b"9" * 5000 + b"}",
    b'{"type":"header","version":NaN}',
    b'{"type":"header","version":0,"boot_id":"\xff"}',
    b'{"type":"header","version":0,"boot_id":"\\udcff"}',
    b'{"type":"tick","number":1e999}',
]


@pytest.mark.parametrize("data", HOSTILE)
@pytest.mark.parametrize("lenient", [False, True])
def test_hostile_bytes_raise_nothing_but_a_trace_error(data, lenient):
    first = outcome_of_reading(data, "", lenient)
    later = outcome_of_reading(HEADER_LINE.encode() + b"\n" + data, "", lenient)

    assert isinstance(first, TraceError)
    assert isinstance(later, TraceError) or later == []


@given(data=st.binary(), ending=st.sampled_from(ENDINGS), lenient=st.booleans())
def test_no_bytes_raise_anything_but_a_trace_error(data, ending, lenient):
    assert isinstance(outcome_of_reading(data, ending, lenient), TraceError)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return {ending: trace(folder / f"trace{ending}", 4).read_bytes() for ending in ENDINGS}


@given(
    where=st.floats(0, 1, exclude_max=True),
    put=st.binary(max_size=3) | st.sampled_from([b"-", b"9" * 30, b"null", b"[", b"1e400", b"\n"]),
    taken=st.integers(0, 3),
    ending=st.sampled_from(ENDINGS),
    lenient=st.booleans(),
)
def test_no_damage_raises_anything_but_a_trace_error(good, where, put, taken, ending, lenient):
    data = good[ending]
    at = int(where * len(data))

    found = outcome_of_reading(data[:at] + put + data[at + taken :], ending, lenient)

    assert isinstance(found, TraceError | list)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """Yield the path of every value inside a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


@given(data=st.data(), number=st.integers(0, 4), put=JSON, lenient=st.booleans())
def test_no_value_in_any_place_raises_anything_but_a_trace_error(good, data, number, put, lenient):
    lines = [json.loads(line) for line in good[""].splitlines()]
    *way, last = data.draw(st.sampled_from([place for place in places(lines[number]) if place]))
    holder = lines[number]
    for key in way:
        holder = holder[key]
    holder[last] = put
    text = "\n".join(json.dumps(line) for line in lines).encode()

    assert isinstance(outcome_of_reading(text, "", lenient), TraceError | list)
