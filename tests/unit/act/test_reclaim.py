# SPDX-License-Identifier: Apache-2.0

"""Moving ends where the kernel would have to take memory from those who use it."""

import os

import pytest

from numad_py.act.reclaim import Reclaim
from tests.fake_root import FakeRoot

MB = 1 << 10  # KiB
HIGH_WATERMARK_BYTES = 10 * os.sysconf("SC_PAGE_SIZE")  # of every node of FakeRoot


@pytest.fixture
def fake(tmp_path):
    fake = FakeRoot(tmp_path)
    fake.vmstat(pswpout=5, pgscan_direct=1000, pgsteal_direct=900)
    return fake


def test_what_happened_before_hurts_nobody_now(fake):
    assert not Reclaim(fake.root).hurts()


@pytest.mark.parametrize(
    ("counters", "hurts"),
    [
        ({"pswpout": 6, "pgscan_direct": 1000, "pgsteal_direct": 900}, True),
        ({"pswpout": 5, "pgscan_direct": 9000, "pgsteal_direct": 8900}, False),
        ({"pswpout": 5, "pgscan_direct": 1164, "pgsteal_direct": 1000}, False),
        ({"pswpout": 5, "pgscan_direct": 1165, "pgsteal_direct": 1000}, True),
    ],
    ids=["swapped", "clean cache gave way", "64 looked at in vain", "65 looked at in vain"],
)
def test_swapping_and_looking_in_vain_hurt_and_clean_cache_that_gives_way_does_not(fake, counters, hurts):
    reclaim = Reclaim(fake.root)

    fake.vmstat(**counters)

    assert reclaim.hurts() == hurts


def test_it_counts_from_where_a_move_begins(fake):
    reclaim = Reclaim(fake.root)
    fake.vmstat(pswpout=99)

    reclaim.begin()

    assert not reclaim.hurts()


def test_a_kernel_without_swap_counts_none(fake):
    fake.write("proc/vmstat", "pgfault 1\n")

    assert not Reclaim(fake.root).hurts()


@pytest.mark.parametrize(
    ("node", "room_mb"),
    [
        ({"free": 100 * MB}, 100),
        ({"free": 100 * MB, "inactive": 32 * MB}, 100),
        ({"free": 100 * MB, "inactive": 132 * MB}, 200),
        ({"free": 100 * MB, "inactive": 132 * MB, "dirty": 60 * MB}, 140),
        ({"free": 100 * MB, "inactive": 132 * MB, "mapped": 60 * MB}, 140),
    ],
    ids=[
        "free memory",
        "a little cache is spared",
        "much cache gives way",
        "dirty cache does not",
        "nor mapped",
    ],
)
@pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="what is spared is counted in pages")
def test_room_is_what_is_free_and_what_nobody_would_miss(fake, node, room_mb):
    fake.meminfo(1, **node)
    room_bytes = (room_mb << 20) - HIGH_WATERMARK_BYTES

    assert Reclaim(fake.root).fits(room_bytes, 1)
    assert not Reclaim(fake.root).fits(room_bytes + 1, 1)


def test_what_a_batch_takes_is_gone_for_the_next(fake):
    fake.meminfo(1, free=100 * MB)
    reclaim = Reclaim(fake.root)

    assert [reclaim.fits(60 << 20, 1) for _ in range(2)] == [True, False]
