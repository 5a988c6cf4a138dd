# SPDX-License-Identifier: Apache-2.0

"""A sample's data source tells local from remote memory, in the old words and in the new."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import data_src

# As PERF_MEM_S() of include/uapi/linux/perf_event.h shifts them.
LOAD = 0x2
HIT, MISS, L3, LOCAL, REMOTE_1, REMOTE_2, REMOTE_CACHE = (
    level << 5 for level in (0x2, 0x4, 0x40, 0x80, 0x100, 0x200, 0x400)
)
NUMBER_L3, NUMBER_RAM, NUMBER_CXL = (level << 33 for level in (0x3, 0xD, 0x9))
REMOTE = 1 << 37


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (LOAD | HIT | LOCAL, "local"),
        (LOAD | HIT | REMOTE_1, "remote"),
        (LOAD | HIT | REMOTE_2, "remote"),
        (LOAD | NUMBER_RAM, "local"),
        (LOAD | NUMBER_RAM | REMOTE, "remote"),
        (LOAD | HIT | LOCAL | NUMBER_RAM, "local"),
        (LOAD | HIT | REMOTE_1 | NUMBER_RAM | REMOTE, "remote"),
        (LOAD | HIT | L3 | NUMBER_L3, ""),
        (LOAD | HIT | REMOTE_CACHE | NUMBER_L3 | REMOTE, ""),
        (LOAD | MISS | LOCAL, ""),
        (LOAD | NUMBER_CXL, ""),
        (0, ""),
    ],
)
def test_memory_is_told_by_whose_it_is(value, told):
    memory = data_src.decode(np.array([value], np.uint64))

    assert (memory.local[0], memory.remote[0]) == (told == "local", told == "remote")


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_nothing_is_local_and_remote(values):
    memory = data_src.decode(np.array(values, np.uint64))

    assert len(memory.local) == len(values)
    assert not (memory.local & memory.remote).any()
