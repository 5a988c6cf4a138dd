# SPDX-License-Identifier: Apache-2.0

"""`make evaluate` writes down what policies came to on what is held, once for each seed."""

import shutil

import pytest

from bench import evaluate

SAVED = {
    "modelled_s": 95.0,
    "modelled_time_to_hold": 0.95,
    "gained_share": 0.5,
    "task_moves": 0,
    "perfect_to_hold": 0.92,
}
BOUNDS = {"least_s": 90.0, "least_anywhere_s": 99.0}


@pytest.fixture
def evaluations(tmp_path):
    path = tmp_path / "evaluations.md"
    path.write_text("# Evaluations\n")
    return path


@pytest.fixture
def one_row(monkeypatch, tmp_path):
    shutil.copy(evaluate.HELD / "late-binding.yaml", tmp_path)
    monkeypatch.setattr(evaluate, "HELD", tmp_path)
    monkeypatch.setattr(evaluate, "TRACES", ())


def test_an_evaluation_is_appended_with_its_seed_and_a_row_for_what_was_played(evaluations, capsys, one_row):
    assert evaluate.main(["a-seed", "--policy", "default"], evaluations) == 0

    written = evaluations.read_text()
    assert written.startswith("# Evaluations\n\n## ")
    assert ", seed a-seed\n" in written
    assert "| late-binding | 0." in written
    assert "| **median** |" in written
    assert capsys.readouterr().out.strip() in written


def test_rows_are_all_held_scenarios_and_all_shipped_traces():
    rows = evaluate.cases("a-seed", ("hold",), evaluate.parsed([]))

    assert {path.stem for path in evaluate.HELD.glob("*.yaml")} < set(rows)
    assert {"traces/scipy-pagerank", "guests/halves"} < set(rows)
    assert "two-nodes" not in rows


def test_scenarios_to_tune_on_are_rows_only_when_asked_for():
    rows = evaluate.cases("a-seed", ("hold",), evaluate.parsed(["--tuning"]))

    assert "wanderer" in rows
    assert "late-binding" not in rows


def test_a_seed_that_was_used_is_refused_but_may_be_printed(evaluations, capsys, one_row):
    evaluations.write_text("# Evaluations\n\n## 2026-01-01, commit abc, seed a-seed\n")

    assert evaluate.main(["a-seed", "--policy", "hold"], evaluations) == 1
    assert "seed a-seed is in evaluations.md" in capsys.readouterr().out
    assert evaluate.main(["a-seed", "--policy", "hold", "--print"], evaluations) == 0
    assert evaluations.read_text().count("a-seed") == 1


def test_the_same_seed_draws_the_same_rows():
    first, second, other = (evaluate.cases(seed, ("hold",), evaluate.parsed([])) for seed in "aab")

    assert first == second != other


@pytest.mark.parametrize(
    ("changed", "written"),
    [
        ({}, "50%"),
        ({"task_moves": 1, "modelled_time_to_hold": 0.99}, "not worse"),
        ({"least_s": 99.0, "modelled_s": 101.0, "modelled_time_to_hold": 1.01}, "1.010 of hold"),
        ({"modelled_s": 104.0, "modelled_time_to_hold": 1.04}, "**1.040 of hold**"),
    ],
)
def test_a_cell_tells_the_share_of_the_saving_or_how_much_worse(changed, written):
    assert evaluate.cell(SAVED | BOUNDS | changed) == written


def test_rows_without_anything_to_save_are_left_out_of_the_median():
    nothing_to_save = SAVED | BOUNDS | {"least_s": 99.9, "gained_share": -9.0}

    assert evaluate.shares([SAVED | BOUNDS, nothing_to_save]) == [0.5]
    assert evaluate.perfect_shares([SAVED | BOUNDS, nothing_to_save]) == pytest.approx([0.8])
