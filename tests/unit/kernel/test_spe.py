# SPDX-License-Identifier: Apache-2.0

"""SPE packets, written down as the Arm ARM lays them out, come out as operations, whatever lies between them."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import spe

PAD, END = b"\0", b"\1"
LOAD, STORE, BRANCH = b"\x49\0", b"\x49\1", b"\x4a\0"
LLC_MISS, REMOTE_ACCESS = 1 << 9, 1 << 10


def pc(address):
    return b"\xb0" + struct.pack("<Q", address)


def virtual(address, tag=0):
    return b"\xb2" + struct.pack("<Q", address | tag << 56)


def physical(address):
    return b"\xb3" + struct.pack("<Q", address | 1 << 63)  # not secure


def latency(value):
    return b"\x98" + struct.pack("<H", value)


def extended_latency(value):
    return b"\x20\x98" + struct.pack("<H", value)


def context(value):
    return b"\x65" + struct.pack("<I", value)


def events(value):
    return b"\x52" + struct.pack("<H", value) if value > 0xFF else b"\x42" + struct.pack("<B", value)


def source(value):
    return b"\x43" + struct.pack("<B", value)


def time(value):
    return b"\x71" + struct.pack("<Q", value)


def decoded(*packets):
    return spe.decode(np.frombuffer(b"".join(packets), np.uint8))


def test_a_load_from_another_socket_is_told_whole():
    found = decoded(
        pc(0x400000),
        context(4242),
        LOAD,
        events(LLC_MISS | REMOTE_ACCESS | 2),
        latency(300),
        virtual(0x7F00_0000_1000, tag=0xA5),
        physical(0x8_0000_1000),
        source(0xD),
        time(99),
    )

    assert found.virtual.tolist() == [0x7F00_0000_1000]
    assert found.physical.tolist() == [0x8_0000_1000]
    assert (found.load.tolist(), found.store.tolist()) == ([True], [False])
    assert (found.remote.tolist(), found.llc_miss.tolist()) == ([True], [True])
    assert (found.source.tolist(), found.context.tolist(), found.timestamp.tolist()) == ([0xD], [4242], [99])
    assert found.broken == 0


def test_what_a_record_does_not_tell_is_not_taken_from_another():
    found = decoded(
        LOAD,
        virtual(0x1000),
        source(3),
        time(5),
        BRANCH,
        pc(0x400000),
        END,
        STORE,
        events(1),
        virtual(0x2000),
        END,
    )

    assert found.virtual.tolist() == [0x1000, 0, 0x2000]
    assert found.load.tolist() == [True, False, False]
    assert found.store.tolist() == [False, False, True]
    assert found.source.tolist() == [3, -1, -1]
    assert found.timestamp.tolist() == [5, 0, 0]


@pytest.mark.parametrize("size", range(1, 9))
def test_a_record_that_was_cut_off_is_left_out(size):
    found = decoded(LOAD, virtual(0x1000), END, LOAD, virtual(0x2000)[:size])

    assert found.virtual.tolist() == [0x1000]


def test_alignment_reaches_to_the_next_multiple():
    align_to_sixteen = b"\x23\0"

    found = decoded(LOAD, align_to_sixteen, b"\xff" * 12, virtual(0x1000), END)

    assert found.virtual.tolist() == [0x1000]
    assert found.broken == 0


def test_bytes_of_no_packet_are_counted_and_passed_over():
    found = decoded(b"\xff\xfe", LOAD, virtual(0x1000), b"\x20\xff", END, b"\x20")

    assert found.virtual.tolist() == [0x1000]
    assert found.broken >= 3


def test_nothing_holds_nothing():
    assert len(decoded().virtual) == 0


PACKETS = st.one_of(
    st.sampled_from([PAD, b"", BRANCH]),
    st.integers(0, 2**56 - 1).map(pc),
    st.integers(0, 0xFFFF).map(latency),
    st.integers(0, 0xFFFF).map(extended_latency),
)


@given(
    st.lists(
        st.tuples(
            st.lists(PACKETS, max_size=4),
            st.integers(1, 2**56 - 1),
            st.booleans(),
            st.integers(0, 0xFFFF),
            st.one_of(st.none(), st.integers(1, 2**64 - 1)),
        ),
        max_size=60,
    )
)
def test_every_stream_of_packets_is_told_apart(records):
    stream = [
        b"".join(noise)
        + (STORE if is_store else LOAD)
        + virtual(address)
        + events(bits)
        + (time(at) if at else END)
        for noise, address, is_store, bits, at in records
    ]

    found = decoded(*stream)

    assert found.virtual.tolist() == [address for _, address, *_ in records]
    assert found.store.tolist() == [is_store for _, _, is_store, *_ in records]
    assert found.remote.tolist() == [bool(bits & REMOTE_ACCESS) for *_, bits, _ in records]
    assert found.timestamp.tolist() == [at or 0 for *_, at in records]
    assert found.broken == 0


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything(data):
    found = decoded(data)

    assert found.broken <= len(data)
    assert not (found.load & found.store).any()
