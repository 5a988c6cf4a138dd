# SPDX-License-Identifier: Apache-2.0

"""Candidates know what they save and cost, and are chosen by that as far as there is room."""

import numpy as np
import pytest

from numad_py.policies.candidates import Candidates, chosen, whole
from numad_py.policies.homes import SEVERAL
from tests.builders import MIB, process, regions, snapshot, topology


def choose(*wanted, room):
    """Choose among ``(bytes by node, target, worth of a byte)``."""
    leaving, target, worth = zip(*wanted, strict=True)
    return chosen(np.array(leaving), np.array(target), np.array(worth, float), np.array(room)).tolist()


def test_a_move_saves_what_distance_costs_the_cores_that_wait():
    on = topology(2)
    offers = Candidates(
        process=np.array([0]),
        target=np.array([1]),
        leaving=np.array([[50, 0]]),
        cores=np.array([[0.0, 2.0]]),
        part_bytes=np.array([100]),
        remote_share=np.array([0.5]),
        confidence=np.array([1.0]),
        ns_per_byte=np.array([0.3]),
        times=np.array([np.nan]),
    )

    saving = offers.saving_ns_per_s(on)

    assert saving.tolist() == pytest.approx([2.0 * 0.3 * 0.5 * 0.6 * 1e9])
    assert offers.cost_ns.tolist() == [50 * 0.3]


def test_only_processes_with_a_home_are_candidates_as_a_whole():
    seen = snapshot(processes=[process(1, pages={0: 10}, cpu_s={1: 1.0}), process(2, pages={0: 10})])

    offers = whole(seen, np.array([1, SEVERAL]), seen.cpu_s)

    assert (offers.process.tolist(), offers.leaving.tolist()) == ([0], [[10 * 4096, 0]])


def test_huge_pages_cost_less_to_move_for_each_byte():
    held = regions({0: 512}), regions({0: 1}, page_bytes=2 * MIB)
    seen = snapshot(processes=[process(pid, regions=each) for pid, each in enumerate(held, 1)])

    offers = whole(seen, np.array([1, 1]), seen.cpu_s)

    assert offers.bytes_.tolist() == [2 * MIB] * 2
    assert offers.cost_ns.tolist() == [512 * 1_240, 190_000]


def test_what_is_worth_most_comes_first_as_far_as_there_is_room():
    assert choose(([10, 0], 1, 1), ([10, 0], 1, 3), ([10, 0], 1, 2), room=[0, 15]) == [0, 10, 5]


def test_what_leaves_makes_room():
    assert choose(([0, 10], 0, 1), ([10, 0], 1, 2), room=[10, 0]) == [10, 10]


def test_two_that_want_the_place_of_each_other_change_it_without_room():
    assert choose(([10, 0], 1, 1), ([0, 7], 0, 1), ([0, 5], 0, 1), room=[0, 0]) == [10, 7, 3]


@pytest.mark.parametrize("room", [0, 1])
def test_three_in_a_ring_go_round_through_little_room_or_none(room):
    assert choose(([9, 0, 0], 1, 3), ([0, 8, 0], 2, 2), ([0, 0, 9], 0, 1), room=[room] * 3) == [8, 8, 8]


def test_who_wants_no_place_in_a_ring_waits():
    assert choose(([9, 0, 0], 1, 3), ([0, 9, 0], 2, 2), ([9, 0, 0], 2, 1), room=[0, 0, 0]) == [0, 0, 0]


def test_a_thousand_candidates_are_chosen_in_whole():
    random = np.random.default_rng(1)
    target = random.integers(4, size=1000)
    leaving = random.integers(1, 1000, (1000, 4)) * (np.arange(4) != target[:, None])

    moved = chosen(leaving, target, random.random(1000), np.full(4, 10**9))

    np.testing.assert_array_equal(moved, leaving.sum(axis=1))
