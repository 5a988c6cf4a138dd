# SPDX-License-Identifier: Apache-2.0

"""`make validate` holds the cost model against published figures, and tells what it was given from what it foretold."""

from dataclasses import replace

import pytest

from bench import validate
from bench.validate import Row

ROWS = validate.rows()


def test_every_test_has_its_rows():
    assert [row.test for row in ROWS] == sorted((row.test for row in ROWS), key=lambda test: int(test[1:]))
    assert {row.test for row in ROWS} == {f"T{number}" for number in range(1, 13)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.test} {row.case}")
def test_every_row_holds_or_says_why_not(row):
    assert row.held is True or row.why


def test_no_more_misses_than_are_written_down():
    missed = [row.test for row in ROWS if row.held is False]

    assert missed == ["T6", "T6", "T10"]
    assert {row.kind for row in ROWS if row.held is False} == {"validation"}


def test_what_goes_in_and_comes_out_again_is_not_called_a_validation():
    kinds = {(row.test, row.kind) for row in ROWS}

    assert {("T1", "regression"), ("T3", "regression"), ("T9", "regression")} <= kinds
    assert {("T11", "calibrated"), ("T12", "calibrated")} <= kinds
    assert {test for test, kind in kinds if kind == "validation"} == {"T2", "T6", "T7", "T8", "T10", "T12"}
    assert all(
        "left out" in row.case for row in ROWS if row.kind == "validation" and row.test in ("T2", "T8")
    )


@pytest.mark.parametrize(
    ("held", "why", "status"), [(True, "", 0), (False, "", 1), (False, "no figures", 0), (None, "", 0)]
)
def test_only_a_row_that_misses_without_saying_why_fails(monkeypatch, capsys, held, why, status):
    row = Row("T1", "a case", "1 ns", held=held, why=why)
    monkeypatch.setattr(validate, "rows", lambda: [replace(ROWS[0], held=True), row])

    assert validate.main() == status
    assert row.verdict in capsys.readouterr().out


def test_a_figure_that_is_too_far_off_misses():
    near, far = (
        validate.compared("T9", "a case", 10.0, simulated, "GB/s", "regression", within=0.01)
        for simulated in (9.95, 9.8)
    )

    assert (near.held, far.held) == (True, False)
