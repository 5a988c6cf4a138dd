# SPDX-License-Identifier: Apache-2.0

"""A job is memory-bound when it waits for memory or keeps it busy, and not when neither is known."""

import pytest

from numad_py.kernel.pmu_events import ROWS
from numad_py.model import JobCounters
from numad_py.sense import roofline
from numad_py.sense.roofline import memory_bound
from tests import builders

PEAK = 100e9
ICE_LAKE, ZEN_3, ZEN_5, N1 = (
    row for row in ROWS if row.name in ("Ice Lake", "Zen 3", "Zen 5", "Neoverse N1")
)
LINES = 10**9


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
    assert memory_bound(bytes_per_s, peak, stall_share, stalls_of_dram=True) is bound


@pytest.mark.parametrize(("stall_share", "bound"), [(0.02, False), (0.11, None), (None, None)])
def test_stalls_that_caches_may_have_caused_speak_against_memory_only(stall_share, bound):
    assert memory_bound(10e9, PEAK, stall_share, stalls_of_dram=False) is bound


def counts(row, *, local, remote, stalls=None, cycles=1000):
    counted = {row.local.name: local, row.remote.name: remote, "cycles": cycles}
    return counted | ({} if stalls is None else {row.stalls.name: stalls})


def place(row, counts, *, verified=True, peak=PEAK):
    return roofline.place(row, counts, 2.0, peak_bytes_per_s=peak, verified=verified)


def test_accesses_stalls_and_bound_are_told():
    counted = counts(ICE_LAKE, local=750, remote=250, stalls=200)
    told = JobCounters(2.0, counted, 750, 250, 0.2, memory_bound=True, verified=True)

    assert place(ICE_LAKE, counted) == told
    assert place(ZEN_5, counts(ZEN_5, local=750, remote=250, stalls=200)).memory_bound is None


def test_lines_of_64_bytes_a_second_fill_the_memory():
    counted = counts(ZEN_5, local=LINES, remote=2 * LINES, stalls=0)  # 96 GB/s

    assert place(ZEN_5, counted, peak=130e9).memory_bound
    assert not place(ZEN_5, counted, peak=140e9).memory_bound


def test_nothing_is_decided_on_what_is_not_verified():
    counted = counts(ICE_LAKE, local=750, remote=250, stalls=900)

    shown = place(ICE_LAKE, counted, verified=False)

    assert (shown.remote_access_share, shown.stall_share) == (0.25, 0.9)
    assert shown.memory_bound is None
    assert not shown.verified


def test_where_stalls_are_not_counted_little_traffic_says_nothing():
    assert place(ZEN_3, counts(ZEN_3, local=750, remote=250)).memory_bound is None


@pytest.mark.parametrize("cycles", [0, None])
def test_a_job_that_did_not_run_has_no_stall_share(cycles):
    counted = counts(ZEN_5, local=0, remote=0, stalls=0, cycles=cycles)

    assert (
        place(ZEN_5, {name: count for name, count in counted.items() if count is not None}).stall_share
        is None
    )


def test_a_core_does_not_wait_for_more_than_all_its_cycles():
    assert place(ZEN_5, counts(ZEN_5, local=1, remote=0, stalls=1001)).stall_share == 1.0


def test_where_local_counts_all_the_remote_are_taken_off():
    assert place(N1, counts(N1, local=1000, remote=250)).remote_access_share == 0.25


@pytest.mark.parametrize(("row", "missing"), [(None, None), (ZEN_5, ZEN_5.local), (ZEN_5, ZEN_5.remote)])
def test_without_both_counts_nothing_is_told_apart(row, missing):
    counted = counts(ZEN_5, local=750, remote=250, stalls=200)
    kept = {name: count for name, count in counted.items() if missing is None or name != missing.name}

    assert place(row, kept) == JobCounters(2.0, kept)


@pytest.mark.parametrize(
    ("ran_on", "peak"),
    [((0,), 100.0), ((1,), 50.0), ((0, 1), 150.0), ((), 0.0)],
    ids=["first", "second", "both", "nowhere"],
)
def test_the_peak_is_that_of_the_nodes_a_job_ran_on(ran_on, peak):
    job = builders.job(builders.process(cpu_s=dict.fromkeys(ran_on, 1.0)))

    assert roofline.peak(job, builders.TWO_NODES, {0: 100.0, 1: 50.0}) == peak


def test_a_peak_that_was_not_measured_leaves_the_whole_unknown():
    job = builders.job(builders.process(cpu_s={0: 1.0, 1: 1.0}))

    assert roofline.peak(job, builders.TWO_NODES, {0: 100.0}) == 0.0
