# SPDX-License-Identifier: Apache-2.0

"""A trace on disk is private, whole, never overwritten; a ring keeps the newest bytes and no more."""

import resource
import stat
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace

import pytest

from numad_py.trace import Header, RingWriter, TraceError, Writer, read, ring_segments
from tests.builders import TWO_NODES, process, regions, snapshot, tick, topology

HEADER = Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9)
ROWS = [{0: 5 + row} for row in range(20)]


def look(number):
    rows = [*ROWS, {0: 900 - number, 1: number}]
    return tick(snapshot(float(number), processes=[process(regions=regions(*rows))]))


def record(path, numbers, size_bytes=20_000, header=HEADER):
    with RingWriter(path, header, size_bytes) as writer:
        for number in numbers:
            writer.write(look(number))


def times(path, **how):
    return [each.snapshot.time_s for each in read(path, **how)[1]]


def test_only_the_owner_may_read_a_trace(tmp_path):
    path = tmp_path / "trace.jsonl"

    Writer(path, HEADER).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("precious")

    with pytest.raises(FileExistsError, match=r"trace\.jsonl exists, .* name another file"):
        Writer(path, HEADER)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_never_followed(tmp_path, there):
    target = tmp_path / "shadow"
    if there:
        target.write_text("precious")
    path = tmp_path / "trace.jsonl"
    path.symlink_to(target)

    with pytest.raises(FileExistsError):
        Writer(path, HEADER)
    assert target.exists() == there


def test_closing_twice_closes_once(tmp_path):
    writer = Writer(tmp_path / "trace.jsonl.zst", HEADER)
    writer.write(look(0))

    writer.close()
    writer.close()

    assert times(tmp_path / "trace.jsonl.zst") == [0]


@contextmanager
def full_disk():
    """Let no file grow beyond 9,000 bytes, as a full disk would not; pytest's own log neither, so not for long."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_whole_line_and_a_closed_writer(tmp_path):
    path = tmp_path / "trace.jsonl"
    writer = Writer(path, HEADER)
    number = -1

    with full_disk(), pytest.raises(OSError, match="File too large"):  # noqa: PT012 - which write fails is not ours to say
        while True:
            writer.write(look(number + 1))
            number += 1

    assert times(path) == list(range(number + 1))
    assert number > 0
    with pytest.raises(ValueError, match="closed file"):
        writer.write(look(1001))
    writer.close()


@pytest.mark.parametrize(("ending", "size_bytes"), [("", 40_000), (".gz", 9000), (".zst", 9000)])
def test_a_ring_keeps_the_newest_ticks_within_its_size(tmp_path, ending, size_bytes):
    path = tmp_path / f"ring.jsonl{ending}"
    writer = RingWriter(path, HEADER, size_bytes)
    total = 0

    for number in range(300):
        before = total
        writer.write(look(number))
        total = sum(segment.stat().st_size for segment in ring_segments(path))
        assert min(before, total) <= size_bytes  # over by no more than the last tick
    writer.close()

    found = times(path)
    assert found == list(range(int(found[0]), 300))
    assert found[0] > 0
    assert total > size_bytes * 0.7


def test_segments_are_traces_of_their_own(tmp_path):
    record(tmp_path / "ring.jsonl.zst", range(300))

    segments = ring_segments(tmp_path / "ring.jsonl.zst")

    assert len(segments) > 1
    assert all(segment.name.startswith("ring.0000") for segment in segments)
    assert [time_s for segment in segments for time_s in times(segment)] == times(tmp_path / "ring.jsonl.zst")


def test_a_restarted_daemon_goes_on_behind_what_the_crashed_one_left(tmp_path):
    path = tmp_path / "ring.jsonl.zst"
    crashed = RingWriter(path, HEADER, 20_000)
    for number in range(10):
        crashed.write(look(number))
    left = ring_segments(path)[-1].read_bytes()

    record(path, range(10, 20))

    assert ring_segments(path)[-2].read_bytes() == left
    assert times(path, lenient=True) == list(range(20))
    with pytest.raises(TraceError, match=r"ring\.000001\.jsonl\.zst, line 12: .* writer was killed"):
        times(path)
    crashed.close()


def test_a_daemon_that_restarts_often_keeps_its_history(tmp_path):
    path = tmp_path / "ring.jsonl"

    for number in range(12):
        record(path, [number], 200_000)

    assert times(path) == list(range(12))


def test_a_ring_is_read_from_its_newest_boot_on(tmp_path):
    path = tmp_path / "ring.jsonl"
    record(path, [100, 101])
    record(path, [1, 2], header=replace(HEADER, boot_id="later"))
    record(path, [3, 4], header=replace(HEADER, boot_id="later"))

    header, _ = read(path)

    assert header.boot_id == "later"
    assert times(path) == [1, 2, 3, 4]
    assert times(ring_segments(path)[0]) == [100, 101]


def test_time_may_not_go_back_between_segments(tmp_path):
    path = tmp_path / "ring.jsonl"
    record(path, [5])
    record(path, [4])

    with pytest.raises(TraceError, match=r"ring\.000002\.jsonl, line 2: time goes back"):
        times(path)


def test_lenient_passes_over_a_segment_without_a_header(tmp_path):
    path = tmp_path / "ring.jsonl"
    record(path, [1])
    record(path, [2])
    record(path, [3])
    second = ring_segments(path)[1]
    second.write_text("torn\nto\npieces")
    gaps = []

    assert times(path, lenient=True, on_damage=gaps.append) == [1, 3]
    assert [(gap.path, gap.line, gap.lines) for gap in gaps] == [(second, 1, 3)]
    with pytest.raises(TraceError):
        read(path)


def test_a_ring_without_any_header_is_no_trace(tmp_path):
    path = tmp_path / "ring.jsonl"
    for number in (1, 2):
        (tmp_path / f"ring.00000{number}.jsonl").touch()

    with pytest.raises(TraceError, match="no segment of this ring"):
        read(path, lenient=True)


def test_strangers_beside_a_ring_are_left_alone(tmp_path):
    names = ["ring.jsonl.zst.bak", "ring.1.jsonl.zst", "xring.000001.jsonl.zst", "ring.000001.jsonl"]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 30_000)

    record(tmp_path / "ring.jsonl.zst", range(300))

    assert all((tmp_path / name).stat().st_size == 30_000 for name in names)


def peak_bytes(path):
    tracemalloc.start()
    for _ in read(path)[1]:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_reading_takes_as_much_memory_for_a_long_trace_as_for_a_short_one(tmp_path):
    for name, length in (("short", 130), ("long", 1300)):
        with Writer(tmp_path / name, HEADER) as writer:
            for number in range(length):
                passing = process(number, regions=regions(*ROWS))
                writer.write(tick(snapshot(float(number), processes=[passing])))

    assert peak_bytes(tmp_path / "long") < 3 * peak_bytes(tmp_path / "short")  # not tenfold


def test_a_ring_begins_a_segment_where_nodes_come_or_go(tmp_path):
    ring, three = tmp_path / "trace.jsonl", topology(3)

    with RingWriter(ring, HEADER, 1 << 20) as writer:
        writer.write(look(1))
        writer.write(tick(snapshot(2.0, on=three)))
        writer.write(tick(snapshot(3.0, on=three)))

    first, second = ring_segments(ring)
    assert times(first) == [1.0]
    assert times(second) == [2.0, 3.0]
    assert read(ring)[0].topology == three
    assert times(ring) == [2.0, 3.0]
