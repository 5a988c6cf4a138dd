# SPDX-License-Identifier: Apache-2.0

"""Of smaps_rollup the bytes in huge pages are read, and nothing else is."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import smaps_rollup

TEXT = b"55d0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:     1756 kB\nAnonHugePages:      4096 kB\nShmemPmdMapped:  0 kB\n"


def test_the_bytes_in_huge_pages_are_read():
    assert smaps_rollup.parse_huge_bytes(TEXT) == 4 << 20


def test_our_own_are_read():
    assert smaps_rollup.read_huge_bytes(os.getpid()) >= 0


@given(st.binary(max_size=200) | st.sampled_from([TEXT.replace(b"4096", b"-1"), TEXT[:60]]))
def test_a_text_without_them_is_refused(text):
    with pytest.raises(smaps_rollup.Malformed):
        smaps_rollup.parse_huge_bytes(text)
