# SPDX-License-Identifier: Apache-2.0

"""Frames are found by address, marked bit by bit, and read again; files are laid out as the kernel documents them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import page_idle

PRESENT = 1 << 63
LRU, TAIL = 1 << 5, 1 << 16
PID, HUGE_BYTES = 7, 16384  # four pages to a huge one


def lay_out(root, *, entries, flags=None, frames=256):
    """Write a pagemap with these entries by page, the flags of frames (LRU where not said), and an empty bitmap."""
    (root / f"proc/{PID}").mkdir(parents=True)
    (root / "sys/kernel/mm/page_idle").mkdir(parents=True)
    pagemap = np.zeros(max(entries, default=0) + 1, np.uint64)
    for page, entry in entries.items():
        pagemap[page] = entry
    (root / f"proc/{PID}/pagemap").write_bytes(pagemap.tobytes())
    every = np.full(frames, LRU, np.uint64)
    every[0] = 0
    for frame, value in (flags or {}).items():
        every[frame] = value
    (root / "proc/kpageflags").write_bytes(every.tobytes())
    (root / page_idle.BITMAP).write_bytes(bytes(frames // 8))
    return root


def frames(root, pages):
    addresses = np.array(pages, np.uint64) * np.uint64(4096)
    return page_idle.frames(PID, addresses, page_bytes=4096, huge_bytes=HUGE_BYTES, root=root).tolist()


def test_a_present_page_has_its_frame_and_any_other_none(tmp_path):
    root = lay_out(tmp_path, entries={3: PRESENT | 70, 4: 71})

    assert frames(root, [3, 4, 5, 900]) == [70, 0, 0, 0]


def test_a_page_within_a_huge_one_is_tracked_by_its_first_frame(tmp_path):
    root = lay_out(tmp_path, entries={1: PRESENT | 66}, flags={66: TAIL, 64: LRU})

    assert frames(root, [1]) == [64]


def test_a_page_that_is_on_no_lru_list_is_not_tracked(tmp_path):
    root = lay_out(tmp_path, entries={1: PRESENT | 66, 2: PRESENT | 67}, flags={66: 0})

    assert frames(root, [1, 2]) == [0, 67]


def test_hidden_frame_numbers_are_refused(tmp_path):
    root = lay_out(tmp_path, entries={1: PRESENT, 2: PRESENT})

    with pytest.raises(PermissionError, match="CAP_SYS_ADMIN"):
        frames(root, [1, 2])


def test_no_address_has_no_frame(tmp_path):
    assert frames(lay_out(tmp_path, entries={}), []) == []


@given(marked=st.sets(st.integers(1, 255)), asked=st.lists(st.integers(1, 255)))
def test_what_is_marked_is_idle_and_nothing_else(tmp_path_factory, marked, asked):
    root = lay_out(tmp_path_factory.mktemp("root"), entries={})

    page_idle.mark(np.array(sorted(marked), np.uint64), root)

    assert page_idle.idle(np.array(asked, np.uint64), root).tolist() == [frame in marked for frame in asked]
