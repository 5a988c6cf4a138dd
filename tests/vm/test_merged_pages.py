# SPDX-License-Identifier: Apache-2.0

"""Pages that the kernel merged (KSM) are of nobody alone: they are counted, they stay, and the rest of a process moves."""

import ctypes
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import ksm, migration
from tests.vm.moving import PAGE, nodes_of_each, read
from tests.vm.running import PATIENCE_S

PAGES = 256
KSM = Path("/sys/kernel/mm/ksm")


@pytest.fixture
def merging():
    """Have the kernel merge as fast as it can, and take all apart again."""
    (KSM / "pages_to_scan").write_text("10000")
    (KSM / "sleep_millisecs").write_text("10")
    (KSM / "run").write_text("1")
    yield
    (KSM / "run").write_text("2")


@pytest.fixture
def memory(merging):
    """Give memory of our own, the first half of which is merged, page with page; the other is of no page's contents."""
    with mmap.mmap(-1, 2 * PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(2 * PAGES):
            equal = page < PAGES
            mapped[page * PAGE : (page + 1) * PAGE] = b"equal..." * (PAGE // 8) if equal else os.urandom(PAGE)
        mapped.madvise(mmap.MADV_MERGEABLE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        until_s = time.monotonic() + PATIENCE_S
        while (ksm.merged_pages(os.getpid()) or 0) < PAGES // 2 and time.monotonic() < until_s:
            time.sleep(0.2)
        yield address


@pytest.mark.guest("two-nodes")
def test_merged_pages_are_counted_and_refused_one_by_one(memory):
    merged = ksm.merged_pages(os.getpid())
    addresses = memory + np.arange(2 * PAGES, dtype=np.uint64) * np.uint64(PAGE)
    (row,) = (line for line in read(os.getpid(), "numa_maps") if line.startswith(f"{memory:x} "))
    target = 1 - nodes_of_each(os.getpid(), memory, memory + PAGE)[0]

    _, of_merged = migration.move_pages(os.getpid(), addresses[:1], target)
    _, of_others = migration.move_pages(os.getpid(), addresses[PAGES:], target)

    assert merged >= PAGES // 2
    assert ksm.shared_pages() > 0
    assert "mapmax=" in row
    assert of_merged.tolist() == [-13]  # EACCES
    assert set(of_others.tolist()) == {target}
