# SPDX-License-Identifier: Apache-2.0

"""Scans slow down where faults are private or local, and speed up where neither is so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.sim.baselines.scan_period import Faults, adapted_ms, least_ms, most_ms
from tests.builders import GIB, MIB


@pytest.mark.parametrize(("bytes_", "least"), [(MIB, 1000), (256 * MIB, 1000), (GIB, 250), (100 * GIB, 100)])
def test_all_memory_is_scanned_in_a_second_up_to_2560_mb(bytes_, least):
    assert least_ms(bytes_) == least


def test_threads_that_share_all_memory_wait_for_each_other():
    assert most_ms(256 * MIB, 8, 1.0) == 8 * most_ms(256 * MIB, 1, 0.0) == 8 * 60_000


@pytest.mark.parametrize(
    ("faults", "period_ms"),
    [
        (Faults(local=0, remote=100, private=100), 2000),  # as written in 6.1: local + shared == 0
        (Faults(local=100, shared=100, failed=1), 2000),
        (Faults(local=1, remote=99, private=100), 1300),
        (Faults(local=100, shared=100), 1300),
        (Faults(local=70, remote=30, shared=100), 1100),
        (Faults(local=50, remote=50, shared=60, private=40), 800),
        (Faults(local=10, remote=90, shared=100), 500),
    ],
    ids=str,
)
def test_the_period_follows_what_faults_were(faults, period_ms):
    assert adapted_ms(1000, faults, 500, 60_000) == period_ms


@given(
    period_ms=st.integers(100, 60_000),
    counts=st.tuples(*[st.floats(0, 1e6)] * 4),
    failed=st.sampled_from((0.0, 1.0)),
)
def test_the_period_stays_between_its_bounds(period_ms, counts, failed):
    local, remote, shared, private = counts

    found = adapted_ms(period_ms, Faults(local, remote, shared, private, failed), 100, 60_000)

    assert 100 <= found <= 60_000
