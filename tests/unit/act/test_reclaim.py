# SPDX-License-Identifier: Apache-2.0

"""Moving ends where the kernel would have to take memory from those who use it."""

import pytest

from numad_py.act.reclaim import Reclaim
from tests.fake_root import FakeRoot


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
