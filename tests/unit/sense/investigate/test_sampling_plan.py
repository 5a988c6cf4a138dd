# SPDX-License-Identifier: Apache-2.0

"""What is opened is told before, fits the limits, and is as little as will do."""

import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.sense.investigate.sampling_plan import Limits, limits, plan
from numad_py.sense.investigate.sampling_rate import GRANTED

PLENTY = Limits(1000, 1 << 30)
RECORD_BYTES = 56


def planned(threads, cpus=(), allowed=PLENTY):
    tids = tuple(range(100, 100 + threads))
    return plan(tids, tuple(cpus), allowed, record_bytes=RECORD_BYTES, page_bytes=4096)


def test_a_few_threads_are_watched_one_by_one():
    opening = planned(2, cpus=range(8))

    assert opening.events == ((100, -1), (101, -1))
    assert not opening.by_cgroup
    assert str(opening) == "2 descriptors for threads, 40 KiB pinned, 0.6 µs a switch"


def test_many_threads_are_watched_by_their_cgroup_on_each_cpu():
    opening = planned(500, cpus=range(3))

    assert opening.events == ((-1, 0), (-1, 1), (-1, 2))
    assert opening.by_cgroup
    assert str(opening).startswith("3 descriptors for CPUs of a cgroup")


def test_without_a_cgroup_every_thread_takes_its_own():
    assert len(planned(500).events) == 500


@pytest.mark.parametrize("allowed", [Limits(3, 1 << 30), Limits(1000, 3 * 5 * 4096 + 4095)])
def test_over_a_limit_the_busiest_threads_are_watched_and_the_others_named(allowed):
    opening = planned(5, allowed=allowed)

    assert opening.events == ((100, -1), (101, -1), (102, -1))
    assert opening.left_out == 2
    assert str(opening).endswith("2 threads left out")


def test_a_cgroup_over_a_limit_falls_back_to_threads():
    opening = planned(9, cpus=range(8), allowed=Limits(3, 1 << 30))

    assert (opening.by_cgroup, len(opening.events), opening.left_out) == (False, 3, 6)


@given(
    threads=st.integers(0, 300),
    cpus=st.integers(0, 300),
    descriptors=st.integers(-5, 400),
    pinned=st.integers(0, 1 << 24),
)
def test_no_plan_takes_more_than_is_allowed(threads, cpus, descriptors, pinned):
    opening = planned(threads, range(cpus), Limits(descriptors, pinned))

    assert len(opening.events) <= max(descriptors, 0)
    assert opening.pinned_bytes <= pinned
    assert opening.by_cgroup or len(opening.events) + opening.left_out == threads


@given(record_bytes=st.integers(16, 200), page_bytes=st.sampled_from([4096, 16384, 65536]))
def test_a_ring_holds_all_that_is_granted_for_a_window(record_bytes, page_bytes):
    pages = plan((1,), (), PLENTY, record_bytes=record_bytes, page_bytes=page_bytes).ring_pages

    assert pages & (pages - 1) == 0
    assert pages * page_bytes > GRANTED * record_bytes


def test_half_of_what_is_left_may_be_taken(tmp_path):
    (tmp_path / "proc/self/fd").mkdir(parents=True)
    for held in range(10):
        (tmp_path / "proc/self/fd" / str(held)).touch()
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/perf_event_mlock_kb").write_text("516\n")

    allowed = limits(4, tmp_path)

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allowed == Limits((soft - 10) // 2, 4 * 516 * 1024 // 2)


def test_this_machine_has_limits():
    allowed = limits(os.cpu_count() or 1)

    assert allowed.pinned_bytes > 0
