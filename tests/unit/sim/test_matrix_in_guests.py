# SPDX-License-Identifier: Apache-2.0

"""The matrix of what was counted in guests goes on where it stopped, and says what was wanted beside what came."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from bench import matrix_in_guests as bench
from bench import matrix_table
from bench.matrix_in_guests import Cell

CELL = Cell("two-nodes", "threshold", "on", "late-bound")
ALONE = CELL._replace(mover="hold")
COUNTED = {
    "settled_s": 4,
    "mover_cpu_s": 2.0,
    "pace_ms": [10.0, 11.0],
    "kernel": "6.1.0",
    "commit": "abc",
    "date": "2026-11-30T09:50Z",
}


@pytest.fixture(autouse=True)
def docs(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_table, "CELLS", tmp_path / "cells.jsonl")
    monkeypatch.setattr(matrix_table, "PAGE", tmp_path / "page.md")
    matrix_table.PAGE.write_text("# By hand\n" + matrix_table.BEGIN + "of earlier\n")
    return tmp_path


def counted(cell, share, pages):
    return cell._asdict() | COUNTED | {"remote_access_share": share, "moved_pages": pages}


def asked(**only):
    said = dict.fromkeys(("guest", "mover", "balancing", "workload"))
    return Namespace(**(said | {"runs": 1, "since": ""} | only))


def test_what_was_counted_as_often_as_wanted_is_not_counted_again():
    matrix_table.keep([counted(CELL, 0.1, 100)])

    once, twice = (bench.wanted(asked(runs=runs)) for runs in (1, 2))

    assert CELL not in once
    assert twice.count(CELL) == 1
    assert twice.count(ALONE) == 2


def test_runs_before_the_day_that_is_asked_for_are_not_counted():
    matrix_table.keep([counted(CELL, 0.1, 100)])

    that_day, next_day = (bench.wanted(asked(since=f"2026-{day}")) for day in ("11-30", "12-01"))

    assert CELL not in that_day
    assert CELL in next_day


def test_one_boot_is_given_what_fits_of_one_guest():
    cells = bench.wanted(asked())

    chosen = bench.fitting(cells, bench.BOOT_S + 3 * (bench.RUN_S + bench.AROUND_S))

    assert sorted(chosen) == sorted(cells[:3])


def test_a_guest_that_counts_nothing_ends_it_and_what_it_left_is_kept(docs, monkeypatch):
    def ends_early(words, **_):
        if words[0] != "git":
            (docs / "two-nodes" / bench.CELLS).write_text(json.dumps(counted(CELL, 0.1, 100)) + "\n")

    (docs / "two-nodes").mkdir()
    monkeypatch.setattr(bench, "BUILD", docs)
    monkeypatch.setattr(bench, "_git", lambda *words: "" if words[0] == "status" else "abc")
    monkeypatch.setattr(bench.subprocess, "run", ends_early)
    left = bench.boot("two-nodes", [CELL], 60)
    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: None)
    none = bench.boot("two-nodes", [CELL], 60)

    assert (left, none) == (True, False)
    assert [each["workload"] for each in matrix_table.kept()] == ["late-bound"]


def test_the_page_keeps_what_is_written_by_hand_and_says_what_was_missed():
    matrix_table.keep([counted(CELL, 0.10, 106), counted(ALONE, 0.09, 100)])

    matrix_table.write(119)

    page = Path(matrix_table.PAGE).read_text()
    assert page.startswith("# By hand\n")
    assert "of earlier" not in page
    assert "Of 119 cells 2 were measured." in page
    assert "at most 0.02 over nobody's: met; 1.05 times the pages: missed" in page
    assert "moved 106 pages, and the kernel alone 100; fewer were wanted: missed" in page


def test_of_several_runs_the_page_has_the_median_and_the_range():
    matrix_table.keep([counted(CELL._replace(balancing="off"), share, 100) for share in (0.3, 0.05, 0.08)])

    matrix_table.write(119)

    assert "| 0.080 (0.050–0.300) | 4 s, 4 s, 4 s | 100 (100–100) |" in Path(matrix_table.PAGE).read_text()
    assert "at most 0.10: met; after 8 s: met" in Path(matrix_table.PAGE).read_text()


def test_the_page_shows_the_last_three_runs_whatever_they_came_to():
    matrix_table.keep([counted(CELL, share, 100) for share in (0.01, 0.02, 0.09, 0.08)])

    matrix_table.write(119)

    assert "| 0.080 (0.020–0.090) |" in Path(matrix_table.PAGE).read_text()


def test_a_run_that_never_settled_stands_beside_those_that_did():
    runs = [counted(CELL._replace(balancing="off"), 0.05, 100) for _ in range(3)]
    matrix_table.keep([runs[0], runs[1] | {"settled_s": None}, runs[2] | {"settled_s": 3}])

    matrix_table.write(119)

    page = Path(matrix_table.PAGE).read_text()
    assert "| 3 s, 4 s, never |" in page
    assert "after 8 s: missed" in page
