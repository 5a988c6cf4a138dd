# SPDX-License-Identifier: Apache-2.0

"""Prices come from published figures, from a machine's own file, or from what was measured there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py import machines
from numad_py.profile import ProfileError
from numad_py.sim import cost, load
from numad_py.topology import Topology
from numad_py.trace import Header
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


def header(kernel="6.12.1", move_4k_page_ns=None):
    return Header(TWO_NODES, kernel, "", 0.0, move_4k_page_ns=move_4k_page_ns)


def test_a_kernel_that_flushes_page_by_page_asks_as_much_more_for_each_page_whatever_its_size():
    old, new = (cost.prices_for(header(kernel)) for kernel in ("6.1.0-32-amd64", "6.3.0"))

    more = [page_ns(old, size) - page_ns(new, size) for size in (4096, 64 << 10, 2 << 20)]

    assert page_ns(old, 4096) / page_ns(new, 4096) == pytest.approx(3.917, rel=1e-3)
    assert more == [cost.UNBATCHED_FLUSH_NS] * 3


def test_a_kernel_of_no_version_is_taken_for_the_newest():
    assert cost.move_prices("none: made up") == cost.move_prices("9.0")


def test_another_kernel_is_not_scaled_to_what_was_measured_under_the_traces_own():
    own, other = (cost.prices_for(header(move_4k_page_ns=5000.0), kernel=kernel) for kernel in ("", "6.1"))

    assert page_ns(own, 4096) == 5000
    assert page_ns(other, 4096) == 1240 + cost.UNBATCHED_FLUSH_NS


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


def test_what_nobody_knows_has_two_ends_between_which_the_usual_lies():
    prices = cost.default_prices(topology(nodes=3, cpuless=(2,))).scaled_to(4096, 2_480.0)

    least, most = prices.ends

    assert (least.latency_ns <= prices.latency_ns).all()
    assert (prices.latency_ns <= most.latency_ns).all()
    assert least.memory_share < prices.memory_share < most.memory_share
    assert least.move_ns == prices.move_ns == most.move_ns


def test_a_range_of_a_machine_file_is_at_the_end_where_memory_matters_least_or_most(tmp_path):
    text = TWO.replace("130", "[120, 140]").replace("80", "[70, 90]") + "memory_share: 0.4\n"
    ranges = "controller_gb_per_s: [[90, 110], 50]\nlink_gb_per_s: [20, 40]\nparallel_accesses: [1, 9]\n"

    least, most = cost.read(written(tmp_path, text + ranges)).ends

    assert (least.latency_ns[0].tolist(), most.latency_ns[0].tolist()) == ([90, 120], [70, 140])
    assert [each.machine.controller_gb_per_s.tolist() for each in (least, most)] == [[110, 50], [90, 50]]
    assert [each.machine.link_gb_per_s for each in (least, most)] == [40, 20]
    assert [each.parallel_accesses for each in (least, most)] == [1, 9]
    assert [each.memory_share for each in (least, most)] == [0.4, 0.4]


def test_who_reaches_for_nothing_waits_for_nothing():
    prices = cost.default_prices(TWO_NODES)

    assert prices.slower(np.ones((1, 2)), np.zeros((1, 2, 2)), 1.0).tolist() == [[1.0, 1.0]]


LIMITS = "bandwidth:\n  read_gb_per_s:\n    - [100, 30]\n    - [null, null]\n"


def test_a_machine_file_without_bandwidth_has_no_limits_and_memory_at_rest(tmp_path):
    prices = cost.read(written(tmp_path, TWO))

    assert prices.machine is None
    assert prices.loaded_ns(np.array([[1e9, 0]]), np.array([[[1.0, 0]] * 2]), 1.0) is prices.latency_ns


def test_bandwidth_limits_controllers_and_wires_and_what_is_not_known_does_not(tmp_path):
    machine = cost.read(written(tmp_path, TWO + LIMITS)).machine

    assert machine.controller_gb_per_s.tolist() == [100, 30]
    assert machine.wire_gb_per_s.tolist() == [[100, 30], [np.inf, np.inf]]
    assert (machine.package.tolist(), machine.link_gb_per_s) == ([0, 1], np.inf)
    assert machine.curve == load.POOLED


def test_limits_may_be_ranges_whose_middle_is_taken(tmp_path):
    text = (
        TWO.replace("130", "[120, 140]") + "controller_gb_per_s: [[90, 110], 50]\nlink_gb_per_s: [20, 40]\n"
    )

    prices = cost.read(written(tmp_path, text + "packages: [[1], [0]]\nparallel_accesses: [1, 9]\n"))

    assert prices.latency_ns.tolist() == [[80, 130], [131, 81]]
    assert prices.machine.controller_gb_per_s.tolist() == [100, 50]
    assert (prices.machine.package.tolist(), prices.machine.link_gb_per_s) == ([1, 0], 30)
    assert prices.parallel_accesses == 5


def test_a_mix_is_over_what_reads_alone_give(tmp_path):
    machine = cost.read(written(tmp_path, TWO + LIMITS + "mix_gb_per_s: {0.5: 160, 0: 200}\n")).machine

    assert machine.mix == ((0.0, 1.0), (0.5, 0.8))


def test_a_sweep_of_a_node_and_itself_makes_the_machines_own_curve(tmp_path):
    sweep = "loaded_latency:\n  - {initiator: 0, target: 0, gb_per_s: [1, 50, 90, 100], latency_ns: [80, 99.6, 143, 199]}\n"

    machine = cost.read(written(tmp_path, TWO + LIMITS + sweep)).machine

    assert machine.curve.factor(np.array([0.5, 1.0])) == pytest.approx([1.25, 2.5], rel=0.02)


@pytest.mark.parametrize("loads", ["", "0, 0, 0, 0", "1, 50, 100"])
def test_a_sweep_of_few_loads_makes_no_curve(tmp_path, loads):
    latencies = ", ".join(["90"] * len(loads.split()))
    sweep = (
        f"loaded_latency:\n  - {{initiator: 0, target: 0, gb_per_s: [{loads}], latency_ns: [{latencies}]}}\n"
    )

    assert cost.read(written(tmp_path, TWO + LIMITS + sweep)).machine.curve == load.POOLED


def test_memory_that_is_used_answers_later_the_more_is_used_at_once(tmp_path):
    prices = cost.read(written(tmp_path, TWO + LIMITS))
    cpu_s, local = np.array([[20.0, 0.0]]), np.array([[[1.0, 0.0]] * 2])

    one, ten = (
        replace(prices, parallel_accesses=each).loaded_ns(cpu_s, local, 1.0)[0, 0] for each in (1, 10)
    )

    assert 80 < one < ten
    assert prices.loaded_ns(cpu_s, local, 0.0)[0, 0] == 80


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_shipped_range_and_limit_says_where_it_comes_from(path):
    machine = machines.read(path)
    told = {*machine.ranges, *(["loaded_latency"] if machine.loaded_latency else [])}

    assert told <= machine.sources.keys()


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_shipped_machine_is_faster_at_home(path):
    latency_ns = cost.read(path).latency_ns

    assert (latency_ns.argmin(axis=1) == np.arange(len(latency_ns))).all()
