# SPDX-License-Identifier: Apache-2.0

"""What was measured in guests is whole and plausible, so that predictions can be held against it."""

import json
from pathlib import Path

import pytest

from numad_py import trace
from tests.vm.nine import NINE

GUESTS = Path(__file__).parents[3] / "sim" / "guests"
POLICIES = {"hold", "kernel", "numad", "threshold"}
MOST_BYTES = 100_000
FEWEST_ACCESSES = 1_000_000
MB = 1 << 20


def policies_of(name):
    """Give what was measured of a workload, by policy."""
    return json.loads((GUESTS / f"{name}.json").read_text())["policies"]


def ticks_of(name):
    """Give the recorded ticks of a workload."""
    _, ticks = trace.read(GUESTS / f"{name}.jsonl.zst")
    return list(ticks)


def processes_of(name):
    """Give all processes of all ticks."""
    return [process for tick in ticks_of(name) for process in tick.snapshot.processes]


def test_there_is_a_result_and_a_trace_for_each_workload_and_nothing_else():
    found = {path.name for path in GUESTS.iterdir()}

    assert found == {
        "SOURCES.md",
        *(f"{name}.json" for name in NINE),
        *(f"{name}.jsonl.zst" for name in NINE),
    }


@pytest.mark.parametrize("name", NINE)
def test_each_policy_was_measured_and_the_shares_are_those_of_what_was_counted(name):
    measured = policies_of(name)

    assert measured.keys() == POLICIES | {"recorded"}
    for policy in measured.values():
        shares = [share_of(run["accesses"]) for run in policy["runs"]]
        assert [run["remote_access_share"] for run in policy["runs"]] == pytest.approx(shares, abs=1e-4)
        assert policy["remote_access_share"] == pytest.approx(sum(shares) / len(shares), abs=1e-4)
        assert (policy["least"], policy["most"]) == pytest.approx((min(shares), max(shares)), abs=1e-4)


def share_of(accesses):
    """Give the remote share of counts by initiator and target."""
    total = sum(map(sum, accesses))
    return 1 - sum(row[node] for node, row in enumerate(accesses)) / total


@pytest.mark.parametrize("name", NINE)
def test_the_workload_was_busy_while_it_was_counted(name):
    for policy in policies_of(name).values():
        assert all(sum(map(sum, run["accesses"])) >= FEWEST_ACCESSES for run in policy["runs"])


@pytest.mark.parametrize("name", NINE)
def test_nothing_was_moved_and_much_was_remote_where_there_was_nobody_to_move_it(name):
    hold = policies_of(name)["hold"]

    assert hold["least"] >= 0.2
    assert all(run["moved_pages"] * 4096 <= MB for run in hold["runs"])


@pytest.mark.parametrize("name", NINE)
def test_what_was_recorded_stayed_where_it_was(name):
    first, last = {}, {}
    for process in processes_of(name):
        if len(process.regions):
            largest = process.regions.resident_bytes[process.regions.resident_bytes.sum(axis=1).argmax()]
            last[process.key] = largest / largest.sum()
            first.setdefault(process.key, last[process.key])

    assert first
    assert all(last[key] == pytest.approx(first[key], abs=0.01) for key in first)


@pytest.mark.parametrize("name", NINE)
def test_the_recording_is_small_and_has_all_of_the_memory(name):
    most = max(
        int(process.regions.resident_bytes.sum()) for process in processes_of(name) if len(process.regions)
    )

    assert most >= NINE[name].mb * MB
    assert (GUESTS / f"{name}.jsonl.zst").stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("name", [name for name, workload in NINE.items() if workload.groups_differ])
def test_who_uses_which_part_was_recorded_where_groups_differ(name):
    seen = [process.accesses for process in processes_of(name) if process.accesses]

    assert sum(int((accesses.counts.sum(axis=0) > 0).sum()) for accesses in seen) >= 2
