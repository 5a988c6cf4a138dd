# SPDX-License-Identifier: Apache-2.0

"""Threads are brought only to cores that nobody wants, and a job of many processes is spread evenly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Threads
from numad_py.policies.cores import Crowd, Wanting, limits, placed, runnable
from tests.builders import process, snapshot, topology

FOUR_CORES = topology(cpus=4)
SIBLINGS = replace(
    topology(cpus=8), cores=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15))
)


def put(load, wanting, **how):
    """Place processes of that load; those who want give their row, and their nodes, best first."""
    places = [(row, tuple((node,) for node in nodes), saving) for row, nodes, saving in wanting]
    return {row: node for row, (node,) in put_into(load, places, **how).items()}


def put_into(load, wanting, *, jobs=None, on=FOUR_CORES, fill=1.0):
    """Do the same with places of some nodes."""
    load = np.array(load, np.float64)
    job = np.array(range(len(load)) if jobs is None else jobs, np.int64)
    return placed([Wanting(*each) for each in wanting], Crowd(load.sum(axis=1), load, job), on, fill)


def test_a_thread_that_ran_a_tenth_of_the_time_wants_a_core_and_of_others_what_they_ran_counts():
    threads = Threads(np.arange(3), np.array([0, 1, 4]), np.array([0.9, 0.1, 0.05]))

    load = runnable(
        snapshot(processes=[process(threads=threads, on=FOUR_CORES)], on=FOUR_CORES), np.array([1.0])
    )

    assert load.tolist() == [[2.0, 0.05]]


def test_siblings_are_no_cores():
    assert (limits(SIBLINGS, 1.0).tolist(), limits(FOUR_CORES, 0.5).tolist()) == ([4, 4], [2, 2])


def test_a_process_goes_where_it_saves_most_if_its_threads_have_cores_there():
    assert put([[1, 1], [3, 0]], [(0, (0, 1), 9.0)]) == {0: 1}
    assert put([[1, 1], [2, 0]], [(0, (0, 1), 9.0)]) == {0: 0}


def test_nobody_goes_where_siblings_would_have_to_serve():
    assert put([[3, 2]], [(0, (0, 1), 9.0)], on=SIBLINGS) == {}


def test_two_that_want_each_others_full_node_change_places():
    assert put([[4, 0], [0, 4]], [(0, (1,), 9.0), (1, (0,), 8.0)]) == {0: 1, 1: 0}


def test_where_one_of_two_has_no_cores_both_stay():
    assert put([[4, 0], [0, 3], [0, 1]], [(0, (1,), 9.0), (1, (0,), 8.0)]) == {}


def test_of_those_who_do_not_fit_the_one_that_saves_most_goes():
    assert put([[1, 1], [1, 1], [1, 1]], [(0, (0,), 1.0), (1, (0,), 3.0), (2, (0,), 2.0)]) == {1: 0}


@pytest.mark.parametrize(("jobs", "there"), [([0, 0, 0, 0], [0, 0, 1, 1]), ([0, 1, 2, 3], [0, 0, 0, 0])])
def test_what_one_job_has_beyond_half_of_a_node_is_spread_evenly(jobs, there):
    found = put([[1, 1]] * 4, [(row, (0, 1), 9.0 - row) for row in range(4)], jobs=jobs, on=topology(cpus=8))

    assert [found[row] for row in range(4)] == there


def test_one_process_alone_may_fill_more_than_half_of_a_node():
    assert put([[2, 2]], [(0, (0, 1), 9.0)]) == {0: 0}


def test_threads_that_come_to_a_package_are_evenly_on_its_nodes():
    one, other = (0, ((0, 1), (2, 3)), 9.0), (1, ((0, 1), (2, 3)), 8.0)

    assert put_into([[3, 3, 0, 0], [0, 0, 3, 3]], [one, other], on=PACKAGES) == {0: (0, 1), 1: (2, 3)}
    assert put_into([[3, 3, 0, 0], [2, 0, 0, 0]], [one], on=PACKAGES) == {0: (0, 1)}
    assert put_into([[3, 3, 0, 0], [3, 0, 0, 0]], [one], on=PACKAGES) == {0: (2, 3)}


PACKAGES = topology(nodes=4, cpus=4)
PLACES = st.sampled_from([((0,), (1,), (2,), (3,)), ((3,), (2,)), ((0, 1), (2, 3)), ((2, 3),)])
few = st.integers(0, 3)
loads = st.lists(st.tuples(few, few, few, few), min_size=1, max_size=8)


@given(loads, st.data())
def test_no_place_that_somebody_comes_to_has_more_threads_than_cores(load, data):
    rows = data.draw(st.lists(st.integers(0, len(load) - 1), unique=True))
    wants = [(row, data.draw(PLACES), data.draw(st.floats(0.1, 9))) for row in rows]
    jobs = data.draw(st.lists(st.integers(0, 2), min_size=len(load), max_size=len(load)))

    found = put_into(load, wants, jobs=jobs, on=PACKAGES)

    after = np.array(load, np.float64)
    for row, place in found.items():
        after[row] = np.isin(np.arange(4), place) * after[row].sum() / len(place)
        assert place in next(among for each, among, _ in wants if each == row)
    assert all(after[:, list(place)].sum() <= 4 * len(place) + 1e-9 for place in found.values())
