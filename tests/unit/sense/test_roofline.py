# SPDX-License-Identifier: Apache-2.0

"""A job is memory-bound when it waits for memory or keeps it busy, and not when neither is known."""

import pytest

from numad_py.sense.roofline import memory_bound

PEAK = 100e9


@pytest.mark.parametrize(
    ("bytes_per_s", "peak", "stall_share", "bound"),
    [
        (10e9, PEAK, 0.02, False),
        (10e9, PEAK, 0.11, True),
        (71e9, PEAK, 0.02, True),
        (71e9, PEAK, None, True),
        (10e9, PEAK, None, None),
        (71e9, 0.0, 0.02, False),
        (71e9, 0.0, None, None),
        (0.0, 0.0, None, None),
    ],
    ids=["computes", "waits", "fills", "fills, waits unknown", "reads little", "no peak", "nothing", "idle"],
)
def test_waiting_or_filling_is_bound(bytes_per_s, peak, stall_share, bound):
    assert memory_bound(bytes_per_s, peak, stall_share) is bound
