# SPDX-License-Identifier: Apache-2.0

"""`make evaluate` writes down what held scenarios came to, once for each seed."""

import pytest

from bench import evaluate


@pytest.fixture
def evaluations(tmp_path):
    path = tmp_path / "evaluations.md"
    path.write_text("# Evaluations\n")
    return path


def test_an_evaluation_is_appended_with_its_seed_and_a_row_for_each_scenario(evaluations, capsys):
    assert evaluate.main(["a-seed", "--policy", "default"], evaluations) == 0

    written = evaluations.read_text()
    assert written.startswith("# Evaluations\n\n## ")
    assert ", seed a-seed\n" in written
    assert written.count("| default |") == len(list(evaluate.HELD.glob("*.yaml"))) >= 4
    assert capsys.readouterr().out.strip() in written


def test_a_seed_that_was_used_is_refused_but_may_be_printed(evaluations, capsys):
    evaluations.write_text("# Evaluations\n\n## 2026-01-01, commit abc, seed a-seed\n")

    assert evaluate.main(["a-seed", "--policy", "default"], evaluations) == 1
    assert "seed a-seed is in evaluations.md" in capsys.readouterr().out
    assert evaluate.main(["a-seed", "--policy", "default", "--print"], evaluations) == 0
    assert evaluations.read_text().count("a-seed") == 1


def test_the_same_seed_gives_the_same_table():
    first, second, other = (evaluate.section(seed, "c", ["default"]).splitlines()[2:] for seed in "aab")

    assert first == second != other
