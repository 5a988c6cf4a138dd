# SPDX-License-Identifier: Apache-2.0

"""Published prices tell near from far, and small pages from large ones."""

import pytest

from numad_py import prices
from tests.builders import topology


def test_latency_is_by_package_and_not_by_firmware_distance():
    on = topology(3, cpuless=(2,), remote=31)

    assert prices.ratios(on).tolist() == [[1.0, 1.6, 2.45], [1.6, 1.0, 2.45], [1.6, 1.6, 1.0]]


@pytest.mark.parametrize(("page_bytes", "ns"), [(4096, 1240), (8192, 1240 * 2), (2 << 20, 190_000)])
def test_a_page_of_a_size_without_a_price_costs_what_smaller_ones_do(page_bytes, ns):
    assert prices.move_ns_per_byte(page_bytes) * page_bytes == ns
