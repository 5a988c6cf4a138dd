# SPDX-License-Identifier: Apache-2.0

"""A real recording, damaged in any way, gives figures or one sentence, and nothing else."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py import profiles
from numad_py.sim import cost, replay
from numad_py.trace import TraceError, read
from numad_py.trace.compression import compressor, decompressed

RECORDED = Path(__file__).parents[2] / "recorded/traces/v0.0.jsonl.zst"
POLICIES = ("hold", "default", "interleave")


def lines_of(path):
    with path.open("rb") as file:
        return b"".join(decompressed(file, path)).splitlines(keepends=True)


LINES = lines_of(RECORDED)[:12]


def replayed(data, ending, *, lenient):
    """Give every policy's figures, or the sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trace.jsonl{ending}"
        path.write_bytes(data)
        try:
            header, ticks = read(path, lenient=lenient)
            policies = {name: profiles.build(profiles.load(name)) for name in POLICIES}
            return replay.scores(ticks, policies, cost.prices_for(header))
        except TraceError as error:
            return error


def is_plain(found):
    if isinstance(found, TraceError):
        return str(found).count("\n") == 0
    return all(
        math.isfinite(score.modelled_s) and math.isfinite(score.accesses) and score.cpu_s >= 0
        for score in found.values()
    )


def packed(data, ending):
    packing = compressor(Path(f"trace{ending}"))
    return packing.flushed(data) + packing.end()


@given(
    flips=st.lists(st.tuples(st.integers(0, sum(map(len, LINES)) - 1), st.integers(1, 255)), max_size=3),
    lenient=st.booleans(),
)
def test_flipped_bytes(flips, lenient):
    data = bytearray(b"".join(LINES))
    for at, bits in flips:
        data[at] ^= bits

    assert is_plain(replayed(bytes(data), "", lenient=lenient))


@given(order=st.lists(st.integers(0, len(LINES) - 1), max_size=16), lenient=st.booleans())
def test_lines_cut_swapped_and_doubled(order, lenient):
    data = b"".join([LINES[0], *(LINES[number] for number in order)])

    assert is_plain(replayed(data, "", lenient=lenient))


@given(
    where=st.floats(0, 1),
    bits=st.integers(0, 255),
    ending=st.sampled_from([".gz", ".zst"]),
    lenient=st.booleans(),
)
def test_compressed_bytes_flipped_and_the_rest_cut_away(where, bits, ending, lenient):
    data = bytearray(packed(b"".join(LINES), ending))
    at = int(where * (len(data) - 1))
    data[at] ^= bits

    assert is_plain(replayed(bytes(data), ending, lenient=lenient))
    assert is_plain(replayed(bytes(data[:at]), ending, lenient=lenient))


def places(value, path=()):
    """Yield the path of every value inside a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


FIGURES = st.sampled_from(
    [0, 1, -1, 2, 255, 2**31, 2**52, 2**63 - 1, 2**64, 0.5, 1e12, 1e308, None, True, [], {}]
)
PLACES = [(number, way) for number in (0, 1, 2, 9) for way in places(json.loads(LINES[number])) if way]


@given(place=st.sampled_from(PLACES), put=FIGURES, lenient=st.booleans())
def test_any_figure_in_any_place(place, put, lenient):
    lines = [json.loads(line) for line in LINES]
    number, (*way, last) = place
    holder = lines[number]
    for key in way:
        holder = holder[key]
    holder[last] = put

    assert is_plain(replayed(b"\n".join(json.dumps(line).encode() for line in lines), "", lenient=lenient))


@pytest.mark.parametrize("lenient", [False, True])
def test_the_recording_itself_is_whole(lenient):
    found = replayed(RECORDED.read_bytes(), ".zst", lenient=lenient)

    assert found["hold"].ticks == len(lines_of(RECORDED)) - 1
