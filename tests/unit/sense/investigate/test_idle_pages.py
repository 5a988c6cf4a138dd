# SPDX-License-Identifier: Apache-2.0

"""Heat is the share of the marked pages that were accessed, whoever did it; without the kernel's help there is none."""

import numpy as np
import pytest

from numad_py.kernel import page_idle
from numad_py.model import AccessSource
from numad_py.sense.investigate.idle_pages import FEWEST, PAGES, PIECES, IdlePages
from tests.builders import HEAP, TWO_NODES, process
from tests.fake_root import FakeRoot

HELD = 1000
FIRST_PAGE = HEAP // 4096
PRESENT, LRU = 1 << 63, 1 << 5


@pytest.fixture
def root(tmp_path):
    """Give a machine on which process 100 holds the frames from 64 on."""
    fake = FakeRoot(tmp_path)
    fake.process(100)
    (fake.root / "sys/kernel/mm/page_idle").mkdir(parents=True)
    (fake.root / page_idle.BITMAP).write_bytes(bytes(2048))
    (fake.root / "proc/kpageflags").write_bytes(np.full(64 + HELD, LRU, np.uint64).tobytes())
    hold(fake.root, 64)
    return fake.root


def hold(root, first_frame):
    """Let the process's pages lie in the frames from that one on; the file has a hole before them."""
    with (root / "proc/100/pagemap").open("wb") as file:
        file.seek(FIRST_PAGE * 8)
        file.write((np.arange(HELD, dtype=np.uint64) + np.uint64(first_frame) | np.uint64(PRESENT)).tobytes())


def touch(root, frames):
    """Do what the kernel does when pages are accessed: take their marks away."""
    bits = np.unpackbits(np.frombuffer((root / page_idle.BITMAP).read_bytes(), np.uint8), bitorder="little")
    bits[list(frames)] = 0
    (root / page_idle.BITMAP).write_bytes(np.packbits(bits, bitorder="little").tobytes())


def watched():
    return process(100, pages={0: HELD})


def test_the_accessed_half_is_hot_and_the_other_cold(root):
    eyes = IdlePages(TWO_NODES, root=root)

    assert eyes.start([watched()])
    touch(root, range(64, 64 + HELD // 2))
    (found,) = eyes.collect().values()

    middle = np.uint64(HEAP + HELD // 2 * 4096)
    assert found.source is AccessSource.IDLE_PAGES
    assert found.checks == PAGES
    assert (found.counts[found.end <= middle] == PAGES).all()
    assert (found.counts[found.start >= middle] == 0).all()
    assert found.groups[0].node is None
    assert eyes.cost_s > 0


def test_a_frame_that_is_another_pages_by_now_says_nothing(root):
    eyes = IdlePages(TWO_NODES, root=root)
    eyes.start([watched()])
    touch(root, range(64, 64 + HELD))
    hold(root, 65)

    (found,) = eyes.collect().values()

    assert not found.counts.any()


def test_a_process_that_is_gone_is_left_out(root):
    eyes = IdlePages(TWO_NODES, root=root)

    assert eyes.start([watched(), process(200, pages={0: 10})])
    (root / "proc/100/pagemap").unlink()

    assert eyes.collect() == {}


def test_a_process_without_pages_there_is_not_watched(root):
    hold(root, 1 << 40)  # frames of which nothing is known

    assert not IdlePages(TWO_NODES, root=root).start([watched()])


def test_without_the_kernels_help_nothing_starts(tmp_path):
    eyes = IdlePages(TWO_NODES, root=tmp_path)

    assert not eyes.start([watched()])
    assert eyes.problems == []
    assert eyes.collect() == {}


def test_where_frames_are_hidden_it_says_what_is_needed(root):
    with (root / "proc/100/pagemap").open("r+b") as file:
        file.seek(FIRST_PAGE * 8)
        file.write(np.full(HELD, PRESENT, np.uint64).tobytes())
    eyes = IdlePages(TWO_NODES, root=root)

    assert not eyes.start([watched()])
    assert "CAP_SYS_ADMIN" in eyes.problems[0]


def test_many_processes_share_the_pieces(root):
    eyes = IdlePages(TWO_NODES, root=root)
    eyes.start([watched(), *(process(pid, pages={0: 10}) for pid in range(200, 200 + PIECES))])

    (found,) = eyes.collect().values()

    assert len(found.start) <= FEWEST
