# SPDX-License-Identifier: Apache-2.0

"""Scores are a table for people and plain values for machines, with the same figures."""

import json
from dataclasses import replace

import msgspec
from rich.console import Console

from numad_py.sim import report
from numad_py.sim.cost import default_prices
from numad_py.sim.score import Scorer
from tests.builders import TWO_NODES, process, tick


def score(pages, **changes):
    scorer = Scorer(default_prices(TWO_NODES))
    for time_s in (0, 10):
        scorer.add(tick(time_s=time_s, processes=[process(pages=pages, cpu_s={1: 1.0})]))
    return replace(scorer.score, **changes)


def printed(scores):
    console = Console(width=120, record=True)
    with console.capture() as capture:
        console.print(report.table("a trace", scores))
    return {
        cells[0].strip(): [cell.strip() for cell in cells[1:]]
        for cells in (
            line.strip("│").split("│") for line in capture.get().splitlines() if line.startswith("│")
        )
    }


def test_every_policy_has_a_column_of_figures_the_best_first():
    scores = {
        "hold": score({0: 3, 1: 1}),
        "near": score({1: 1}, moved_bytes=5 << 20, moved_pages=1280, decisions=2, held=1, moving_s=0.25),
    }

    rows = printed(scores)

    assert rows["local at the end"] == ["100.0 %", "25.0 %"]
    assert rows["local over time"] == ["██", "▃▃"]
    assert rows["settled, slowest job"] == ["0.0 s", "never"]
    assert rows["modelled remote access"] == ["0.0 %", "75.0 %"]
    assert rows["modelled time / hold"] == [f"{1 / (0.7 + 0.3 * (0.75 * 1.6 + 0.25)):.3f}", "1.000"]
    assert rows["moved, MB"] == ["5", "0"]
    assert rows["moved, pages"] == ["1,280", "0"]
    assert rows["CPU time of moving, s"] == ["0.250", "0.000"]
    assert rows["moves decided"] == ["2", "0"]
    assert rows["held back by the guard"] == ["1", "0"]


def test_what_is_not_known_is_a_dash():
    scorer = Scorer(default_prices(TWO_NODES))
    scorer.add(tick())

    rows = printed({"hold": scorer.score})

    unknown = [label for label, cells in rows.items() if cells == ["–"]]
    assert unknown == [
        "local at the end",
        "local on average",
        "settled, slowest job",
        "accesses seen",
        "modelled remote access",
        "modelled time / hold",
        "at the least",
        "at the most",
        "with perfect sight",
        "time of jobs / hold",
        "slowest job / hold",
        "of the possible gain",
    ]


def test_the_table_says_that_its_figures_are_modelled():
    with (console := Console(width=200)).capture() as capture:
        console.print(report.table("a trace", {"hold": score({0: 1})}))

    assert "Modelled, not measured" in capture.get()


def test_the_table_says_how_far_models_of_others_are_to_be_trusted():
    with (console := Console(width=200)).capture() as capture:
        console.print(report.table("a trace", {"hold": score({0: 1}), "numad": score({0: 1})}))

    assert "each missed two of nine workloads" in " ".join(capture.get().split())


def test_values_survive_json_and_are_rounded_to_what_is_the_same_everywhere():
    values = report.values({"hold": score({0: 1, 1: 2}), "near": score({1: 1})})

    read = json.loads(msgspec.json.encode(values))

    assert read == values
    assert read["hold"]["remote_access_share"] == 0.333333333
    assert read["near"]["modelled_time_to_hold"] == float(f"{1 / (0.7 + 0.3 * (1.6 / 3 + 2 / 3)):.9g}")
    assert read["near"]["worst_settle_s"] == 0.0


def test_many_policies_and_their_ranges_fit_a_terminal_of_80_columns_without_a_broken_figure():
    names = ["hold", "default", "kernel-balancing", "best-static-binding", f"stdio:{'a' * 40}", "b", "c"]
    scores = {name: score({1: 1}, moved_bytes=99_999 << 20) for name in names}

    with (console := Console(width=80)).capture() as capture:
        console.print(report.table("a trace", scores, dict.fromkeys(names, (0.9, 1.1))))

    said = capture.get()
    assert "…" not in said
    assert [said.count(figure) for figure in ("1.000", "100.0 %", "99,999", "0.90–1.10")] == [14, 7, 7, 7]


def test_five_policies_fit_a_terminal_of_80_columns_without_a_broken_figure():
    scores = {name: score({1: 1}, moved_pages=333_568) for name in ("hold", "a", "b", "c", "d")}

    with (console := Console(width=80)).capture() as capture:
        console.print(report.table("a trace", scores))

    lines = capture.get().splitlines()
    assert next(line for line in lines if "333,568" in line).count("333,568") == 5
    assert sum(line.startswith("│") for line in lines) == len(report.rows(scores))
