# SPDX-License-Identifier: Apache-2.0

"""Prices come from published figures, from a machine's own file, or from what was measured there."""

from pathlib import Path

import numpy as np
import pytest

from numad_py.model import Topology
from numad_py.profile import ProfileError
from numad_py.sim import cost
from tests.builders import TWO_NODES, topology

MACHINES = sorted((Path(__file__).parents[3] / "sim" / "machines").glob("*.yaml"))
TWO = "source: test\nlatency_ns:\n  - [80, 130]\n  - [131, 81]\n"


def page_ns(prices, page_bytes):
    return int(prices.page_ns(np.array([page_bytes]))[0])


def written(tmp_path, text):
    path = tmp_path / "machine.yaml"
    path.write_text(text)
    return path


def test_another_package_is_slower_than_another_node_of_the_same():
    four = topology(nodes=4)
    distances = ((10, 12, 32, 32), (12, 10, 32, 32), (32, 32, 10, 12), (32, 32, 12, 10))

    prices = cost.default_prices(Topology(four.nodes, distances, 4096))

    assert prices.latency_ns[0].tolist() == pytest.approx([90, 108, 144, 144])


def test_distances_are_not_read_as_times():
    near, far = (cost.default_prices(topology(remote=remote)).latency_ns for remote in (21, 40))

    assert near.tolist() == far.tolist()


def test_memory_without_cpus_is_the_slowest():
    prices = cost.default_prices(topology(nodes=3, cpuless=(2,)))

    assert prices.latency_ns[0].argmax() == 2


@pytest.mark.parametrize(("page_bytes", "price_ns"), cost.MOVE_NS.items())
def test_a_page_of_a_measured_size_has_its_measured_price(page_bytes, price_ns):
    assert page_ns(cost.default_prices(TWO_NODES), page_bytes) == price_ns


def test_prices_between_and_beyond_measured_sizes_follow_from_their_neighbours():
    prices = cost.default_prices(TWO_NODES)

    assert 2_920 < page_ns(prices, 32 << 10) < 9_840
    assert page_ns(prices, 1 << 30) == 512 * 190_000
    assert page_ns(prices, 2 << 10) == 1_240


def test_a_measured_price_scales_all_others():
    prices = cost.default_prices(TWO_NODES).scaled_to(4096, 2_480.0)

    assert (page_ns(prices, 4096), page_ns(prices, 2 << 20)) == (2_480, 380_000)


def test_accesses_are_what_fits_into_the_time_spent_waiting():
    prices = cost.Prices(np.array([[100.0, 200.0], [200.0, 100.0]]), memory_share=0.5)

    assert prices.accesses_per_cpu_s == pytest.approx(5e6)


def test_a_machine_file_gives_all_prices(tmp_path):
    more = "move_ns:\n  2097152: 300000\n  4096: 2000\ncall_ns: 5000\nmemory_share: 0.4\n"

    prices = cost.read(written(tmp_path, TWO + more))

    assert prices.latency_ns.tolist() == [[80, 130], [131, 81]]
    assert prices.move_ns == ((4096, 2000.0), (2097152, 300000.0))
    assert (prices.call_ns, prices.memory_share) == (5000, 0.4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: test\n", "latency_ns: found no value"),
        ("source: test\nlatency_ns:\n  - [80, 130]\n", "a row for every node"),
        (TWO.replace("130", "0"), "a latency is more than 0"),
        (TWO + "move_ns:\n  4K: 12\n", "page sizes in bytes"),
        (TWO + "move_ns:\n  4096: -1\n", "a price is more than 0"),
        (TWO + "memory_share: 2\n", "between 0 and 1"),
        (TWO + "speed: 2\n", "unknown key"),
    ],
)
def test_a_machine_file_that_makes_no_sense_is_refused(tmp_path, text, said):
    with pytest.raises(ProfileError, match=said):
        cost.read(written(tmp_path, text))


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_shipped_machine_is_faster_at_home(path):
    latency_ns = cost.read(path).latency_ns

    assert (latency_ns.argmin(axis=1) == np.arange(len(latency_ns))).all()
