# SPDX-License-Identifier: Apache-2.0

"""IBS registers, written down as the kernel's header lays them out, are told as accesses."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from numad_py.kernel import ibs

LOAD, STORE, NO_MAB, LINEAR_VALID, PREFETCH = 1 << 0, 1 << 1, 1 << 16, 1 << 17, 1 << 21
DRAM, REMOTE, PEER = 3, 1 << 4, 4
EXTENDED_MEMORY = 1 << 6  # source 8: bits 6 and 7 are its high ones


def raw(data_2, data_3, address=0x7F00_1234_5678, *, more=0):
    """Give the raw part of a sample: capabilities, seven registers, and more where a CPU has more."""
    registers = (1 << 17, 0x401000, 0, data_2, data_3, address, 0x1234_5678)
    return struct.pack("=I7Q", 0x3FF, *registers) + bytes(8 * more)


def decoded(*rows):
    return ibs.decode(np.array([list(row) for row in rows], np.uint8))


@pytest.mark.parametrize("more", [0, 2])
def test_a_load_from_another_nodes_memory_is_told(more):
    found = decoded(raw(DRAM | REMOTE, LOAD | LINEAR_VALID, more=more))

    assert found.address.tolist() == [0x7F00_1234_5678]
    assert [found.accessed[0], found.store[0], found.dram[0], found.remote[0]] == [True, False, True, True]


@pytest.mark.parametrize(
    ("data_2", "data_3", "told"),
    [
        (DRAM, LOAD | LINEAR_VALID, (True, False, True, False)),
        (0, STORE | LINEAR_VALID, (True, True, False, False)),
        (DRAM | REMOTE, STORE | LINEAR_VALID, (True, True, False, False)),
        (PEER | REMOTE, LOAD | LINEAR_VALID, (True, False, False, False)),
        (EXTENDED_MEMORY | DRAM, LOAD | LINEAR_VALID, (True, False, False, False)),
        (DRAM | REMOTE, LOAD | LINEAR_VALID | PREFETCH, (True, False, False, False)),
        (DRAM | REMOTE, LOAD | LINEAR_VALID | NO_MAB, (True, False, False, False)),
        (DRAM, LOAD, (False, False, True, False)),
        (0, LINEAR_VALID, (False, False, False, False)),
        (0, 0, (False, False, False, False)),
    ],
)
def test_what_is_not_told_is_not_guessed(data_2, data_3, told):
    found = decoded(raw(data_2, data_3))

    assert (found.accessed[0], found.store[0], found.dram[0], found.remote[0]) == told


@pytest.mark.parametrize("shape", [(3, ibs.LEAST_BYTES - 1), (0, 0), (64,)])
def test_raw_parts_too_short_are_refused(shape):
    with pytest.raises(ibs.Malformed):
        ibs.decode(np.zeros(shape, np.uint8))


@given(arrays.arrays(np.uint8, st.tuples(st.integers(0, 5), st.integers(0, 90))))
def test_no_bytes_raise_anything_but_malformed(data):
    try:
        found = ibs.decode(data)
    except ibs.Malformed:
        return
    assert len(found.address) == len(data)
    assert not (found.remote & ~found.dram).any()
