# SPDX-License-Identifier: Apache-2.0

"""Pieces of work come to the same in one process and in several, and so does what goes wrong in them."""

import multiprocessing
import os

import pytest

from numad_py.sim import pool
from numad_py.trace import TraceError
from tests import pieces


def done(work, count, *, jobs, tell=int):
    return dict(pool.results(work, list(range(count)), jobs=jobs, tell=tell))


def test_every_piece_is_done_and_known_by_its_number():
    found = done(pieces.squared, 5, jobs=2)

    assert {number: square for number, (square, _) in found.items()} == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}
    assert os.getpid() not in {pid for _, pid in found.values()}


@pytest.mark.parametrize(("count", "jobs"), [(1, 8), (3, 1)])
def test_one_piece_or_one_job_needs_no_other_process(count, jobs):
    assert {pid for _, pid in done(pieces.squared, count, jobs=jobs).values()} == {os.getpid()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_it_is_told_how_much_of_all_pieces_is_done(jobs):
    told = []

    done(pieces.squared, 4, jobs=jobs, tell=told.append)

    assert sum(told) == 40


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_piece_raises_arrives_whole_and_ends_the_others(jobs):
    with pytest.raises(TraceError) as caught:
        done(pieces.refused, 4, jobs=jobs)

    assert str(caught.value) == "a.jsonl, line 7: JSON is malformed; record again"
    assert (caught.value.line, caught.value.what) == (7, "JSON is malformed")
    assert multiprocessing.active_children() == []


def test_a_process_that_was_killed_is_a_sentence():
    with pytest.raises(
        ChildProcessError, match="was killed, most likely for want of memory: try fewer --jobs"
    ):
        done(pieces.killed, 4, jobs=2)


def test_there_is_a_cpu_to_use():
    assert pool.usable_cpus() == len(os.sched_getaffinity(0))
