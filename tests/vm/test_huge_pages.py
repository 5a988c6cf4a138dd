# SPDX-License-Identifier: Apache-2.0

"""Huge pages move whole, with one address each, and one that is pinned costs little."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py.model import Ending
from tests.vm.moving import (
    HUGE,
    MB,
    PAGE,
    Calls,
    act,
    act_in_steady_batches,
    block_of,
    move_of,
    nodes_of_each,
    pages_on,
    read,
    stayed_pages,
)

everywhere = pytest.mark.guest("two-nodes", "four-nodes")


@pytest.fixture
def calls(monkeypatch):
    return Calls().wrap(monkeypatch)


def anon_huge_bytes(pid, start):
    """Read how much of a VMA is huge pages."""
    lines = iter(read(pid, "smaps"))
    next(line for line in lines if line.startswith(f"{start:x}-"))
    return int(next(line for line in lines if line.startswith("AnonHugePages:")).split()[1]) * 1024


@everywhere
def test_huge_pages_move_whole_with_one_address_each(workload, calls):
    running = workload("late-bound", "--mb=64", "--pages=huge")
    huge_bytes = anon_huge_bytes(running.pid, running.start)

    outcome = act(move_of(running))

    sent = [address for batch in calls.addresses for address in batch]
    base = (64 * MB - huge_bytes) // PAGE  # a mapping that is not aligned begins and ends with base pages
    assert huge_bytes >= 60 * MB
    assert anon_huge_bytes(running.pid, running.start) == huge_bytes
    assert len(sent) == huge_bytes // HUGE + base
    assert len(pages_on(running, 1)) == 64 * MB // PAGE
    assert (outcome.ending, outcome.moved_bytes, outcome.failed) == (Ending.DONE, 64 * MB, {})


@everywhere
def test_a_pinned_huge_page_stays_and_costs_few_calls(workload, calls):
    running = workload("pinned", "--mb=16", "--pages=huge", "--pin-heads")
    head = block_of(running)

    outcome = act(move_of(running))

    stayed = tuple(range(head, head + 2 * HUGE // PAGE))
    assert pages_on(running, 0) == stayed
    assert stayed_pages(running, outcome) == stayed
    assert outcome.failed == {"unmovable": 2}
    assert len(calls.addresses) < 40


@everywhere
def test_huge_pages_met_unawares_move_and_a_pinned_one_among_them_costs_few_calls(workload, calls):
    # Behind base pages the next huge pages are taken for base pages too, where only trying can tell.
    running = workload("pinned", "--mb=16", "--pages=half-huge", "--pin", "3072")
    huge_start = (running.start + running.end) // 2
    huge_bytes = anon_huge_bytes(running.pid, huge_start)
    whole = move_of(running)
    start, end = (
        np.array(column, np.uint64) for column in ((running.start, huge_start), (huge_start, running.end))
    )

    outcome = act_in_steady_batches(replace(whole, start=start, end=end, page_bytes=np.full(2, PAGE)))

    head = (running.start + 3072 * PAGE) // HUGE * HUGE
    stayed = tuple(range((head - running.start) // PAGE, (head + HUGE - running.start) // PAGE))
    assert huge_bytes >= 6 * MB
    assert anon_huge_bytes(running.pid, huge_start) == huge_bytes
    assert pages_on(running, 0) == stayed
    assert stayed_pages(running, outcome) == stayed
    assert outcome.moved_bytes == 14 * MB
    assert len(calls.addresses) < 2 * 16 * MB // PAGE // 64


@pytest.fixture
def reserved():
    """Reserve four pages of hugetlb memory on each of the first two nodes."""
    counts = [
        Path(f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages")
        for node in (0, 1)
    ]
    for count in counts:
        count.write_text("4")
    assert [count.read_text().strip() for count in counts] == ["4", "4"]
    yield
    for count in counts:
        count.write_text("0")


@everywhere
def test_hugetlb_pages_move_with_one_address_each(reserved, workload, calls):
    running = workload("late-bound", "--mb=8", "--pages=hugetlb")
    before = nodes_of_each(running.pid, running.start, running.end, HUGE)

    outcome = act(move_of(running, page_bytes=HUGE))

    sent = [address for batch in calls.addresses for address in batch]
    (row,) = (
        line.split() for line in read(running.pid, "numa_maps") if line.startswith(f"{running.start:x} ")
    )
    assert before == [0] * 4
    assert sorted(sent) == list(range(running.start, running.end, HUGE))  # by two workers
    assert {"N1=4", "kernelpagesize_kB=2048"} <= set(row)
    assert (outcome.ending, outcome.moved_bytes) == (Ending.DONE, 8 * MB)
