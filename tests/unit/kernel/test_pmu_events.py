# SPDX-License-Identifier: Apache-2.0

"""The table of events is sound in itself, and a row is verified by what was counted alone."""

from pathlib import Path

import pytest

from numad_py.kernel.cpu_model import Cpu
from numad_py.kernel.perf_events import TYPE_RAW
from numad_py.kernel.pmu_events import ROWS, Counts, row_of, verified

SUPPLIERS = 0x3C00_0000  # of MSR_OFFCORE_RSP: the bits for DRAM, local and so many hops away
DOCUMENTED = (Path(__file__).parents[3] / "docs/counters.md").read_text().splitlines()
EVENTS = [event for row in ROWS for event in row.events]


def test_no_model_is_claimed_twice():
    claims = [(*models[:2], model) for row in ROWS for models in row.models for model in _range(models)]

    assert len(claims) == len(set(claims))


def _range(models):
    assert models.first <= models.last
    return range(models.first, models.last + 1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_says_what_remote_means_and_where_it_is_from(row):
    assert row.remote_means
    assert row.source
    assert len({(event.config, event.config1) for event in row.events}) == len(row.events)
    assert all(row_of(Cpu(*models[:2], models.first)) is row for models in row.models)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_code_is_a_raw_one_that_fits(event):
    assert event.type == TYPE_RAW
    assert 0 < event.config < 1 << 32
    assert 0 <= event.config1 < 1 << 38  # MSR_OFFCORE_RSP, the widest mask in arch/x86/events/intel/core.c


def test_an_offcore_response_tells_local_from_remote():
    rows = [row for row in ROWS if row.local.config1]

    for row in rows:
        assert row.local.config1 & 0xFFFF == row.remote.config1 & 0xFFFF  # of the same requests
        assert row.local.config1 & row.remote.config1 & SUPPLIERS == 0
        assert row.local.config != row.remote.config  # each has a register of its own
    assert len(rows) == 5


def test_neither_end_of_a_generation_is_missing():
    names = " ".join(row.name for row in ROWS)

    for generation in ("Broadwell", "Granite", "Sierra", "Zen 2", "Zen 5", "N1", "V1", "N2", "V2", "Grace"):
        assert generation in names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_documentation_tells_each_row(row):
    stalls = row.stalls.name if row.stalls else "–"
    cells = (
        row.name,
        f"{row.local.name}, {row.remote.name}",
        "yes" if row.prefetched else "no",
        row.remote_means,
        stalls,
        row.source,
    )

    assert f"| {' | '.join(cells)} |" in DOCUMENTED


def test_where_local_counts_everything_remote_is_taken_off():
    (row,) = [row for row in ROWS if row.name == "Neoverse N1"]

    assert row.counts(1000.0, 300.0) == Counts(700.0, 300.0)
    assert row.counts(10.0, 30.0) == Counts(0.0, 30.0)


def test_elsewhere_both_stand_as_counted():
    (row,) = [row for row in ROWS if row.name == "Zen 5"]

    assert row.counts(1000.0, 300.0) == Counts(1000.0, 300.0)


def test_a_row_is_verified_when_nine_tenths_fall_on_the_right_side_each_time():
    assert verified(Counts(9000, 1000), Counts(1000, 9000))


@pytest.mark.parametrize(
    ("local_run", "remote_run"),
    [
        (Counts(8999, 1001), Counts(0, 10000)),
        (Counts(10000, 0), Counts(1001, 8999)),
        (Counts(10000, 0), Counts(10000, 0)),
        (Counts(0, 10000), Counts(10000, 0)),
        (Counts(0, 0), Counts(0, 0)),
        (Counts(10000, 0), Counts(0, 900)),
        (Counts(900, 0), Counts(0, 10000)),
    ],
    ids=["local", "remote", "deaf to remote", "swapped", "dead", "few remote", "few local"],
)
def test_a_row_is_not_verified_by_anything_less(local_run, remote_run):
    assert not verified(local_run, remote_run)
