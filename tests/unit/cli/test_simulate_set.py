# SPDX-License-Identifier: Apache-2.0

"""``numad-py simulate --set`` replays every point once, writes it down, and shows the best first."""

import json
import re

import pytest
import typer
from typer.testing import CliRunner

from numad_py import __version__, trace
from numad_py.cli import sweeping
from numad_py.cli.simulate import simulate
from numad_py.profile import ProfileError
from numad_py.profiles import find_model
from tests import two_nodes

SCENARIO = """
about: a test
published: nothing
marks: [{mark: fitted, figures: [machine, jobs, length_s], source: made up}]
length_s: 20
machine: {cpus: [4, 4], memory_mb: [2048, 2048], file_mb: [64, 64], distances: [[10, 21], [21, 10]]}
jobs: [{name: late, groups: [{run: [{at_s: 0, cores: [0, 2]}], memory: [{kind: heap, mb: [500, 0]}]}]}]
"""


def ran(*arguments, status=0):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(simulate)
    arguments = [*map(str, arguments), "--jobs", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def found(*arguments):
    return json.loads(ran(*arguments, "--json").stdout)


def replayed(monkeypatch):
    """Count the points that are replayed from now on."""
    batches, really = [], sweeping.replayed_together
    monkeypatch.setattr(
        sweeping, "replayed_together", lambda batch, tell: batches.append(batch) or really(batch, tell)
    )
    return lambda: sum(map(len, batches))


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "a.jsonl"
    with trace.Writer(path, two_nodes.HEADER) as writer:
        for each in list(two_nodes.ticks())[:10]:
            writer.write(each)
    return path


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "late.yaml"
    path.write_text(SCENARIO)
    return path


def test_every_combination_is_a_point_and_the_best_is_first(recorded):
    points = found(recorded, "--set", "default.patience=1..3", "--set", "default.guard.limit_mb_per_s=0,1024")

    times = [point["policies"]["default"]["modelled_time_to_hold"] for point in points]
    assert len({tuple(point["settings"].items()) for point in points}) == len(points) == 6
    assert times == sorted(times)
    assert points[0]["settings"] == {"default.patience": 1, "default.guard.limit_mb_per_s": 1024}
    assert times[-1] == 1.0
    assert points[0]["version"] == __version__


def test_only_policies_that_are_set_are_replayed_unless_others_are_named(recorded):
    (alone,) = found(recorded, "--set", "interleave.patience=3")
    named = ("--policy", "default", "--policy", "interleave")
    (both,) = found(recorded, "--set", "interleave.patience=3", *named)
    (neither,) = found(recorded, "--set", "memory_share=0.2")

    assert list(alone["policies"]) == ["hold", "interleave"]
    assert list(both["policies"]) == list(neither["policies"]) == ["hold", "default", "interleave"]
    with pytest.raises(ProfileError, match=r"found no 'interleave.patience'; there is .*default.patience"):
        ran(recorded, "--set", "interleave.patience=3", "--policy", "default")


def test_a_point_comes_to_what_its_profile_would(recorded, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("policy: threshold\nparameters: {patience: 4}\nguard: {limit_mb_per_s: 100}\n")
    (expected,) = found(recorded, "--policy", mine)

    points = found(
        recorded, "--set", "default.patience=1..9", "--set", "default.guard.limit_mb_per_s=100,200"
    )

    wanted = {"default.patience": 4, "default.guard.limit_mb_per_s": 100}
    (point,) = (point for point in points if point["settings"] == wanted)
    not_tried = {"perfect_s": None, "perfect_to_hold": None}
    assert point["policies"]["default"] == expected["policies"][str(mine)] | not_tried
    assert point["policies"]["hold"] == expected["policies"]["hold"] | not_tried


def test_a_profile_that_is_a_file_is_set_by_its_name(recorded, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("policy: threshold\n")

    points = found(recorded, "--policy", mine, "--set", "mine.patience=1,9")

    one, nine = (point["policies"][str(mine)]["moved_bytes"] for point in points)
    assert one > nine


def test_the_cost_model_can_be_set(recorded):
    points = found(recorded, "--set", "memory_share=0.1..0.5/3", "--policy", "default")

    gains = {
        point["settings"]["memory_share"]: 1 - point["policies"]["default"]["modelled_time_to_hold"]
        for point in points
    }
    assert list(gains) == [0.5, 0.3, 0.1]
    assert gains[0.5] > gains[0.3] > gains[0.1] > 0


def test_a_scenario_s_figures_can_be_set(scenario):
    points = found(
        "--scenario", scenario, "--set", "jobs.late.groups.0.memory.0.mb.0=200,900", "--policy", "default"
    )

    moved = {tuple(p["settings"].values()): p["policies"]["default"]["moved_bytes"] >> 20 for p in points}
    assert moved == {(200,): 200, (900,): 900}


def test_each_trace_and_scenario_has_its_own_results(recorded, scenario):
    points = found(recorded, "--scenario", scenario, "--set", "default.patience=1,2")

    assert [point["source"] for point in points] == [str(recorded)] * 2 + [str(scenario)] * 2


def test_points_that_are_in_the_file_are_not_replayed_again(recorded, tmp_path, monkeypatch):
    into, count = tmp_path / "results.jsonl", replayed(monkeypatch)
    first = found(recorded, "--set", "default.patience=1..3", "--into", into)
    assert count() == 3

    again = found(recorded, "--set", "default.patience=1..3", "--into", into)
    assert (count(), again) == (3, first)

    found(recorded, "--set", "default.patience=2..5", "--into", into)
    assert count() == 5
    assert len(into.read_text().splitlines()) == 5


def test_what_a_point_depends_on_makes_it_another(recorded, scenario, tmp_path, monkeypatch):
    into, count = tmp_path / "results.jsonl", replayed(monkeypatch)
    mine = tmp_path / "mine.yaml"
    mine.write_text("policy: threshold\n")
    sets = ("--set", "mine.patience=2", "--policy", mine, "--into", into)
    found(recorded, *sets)

    found(recorded, *sets, "--kernel", "6.1")
    found("--scenario", scenario, *sets)
    scenario.write_text(SCENARIO.replace("length_s: 20", "length_s: 30"))
    found("--scenario", scenario, *sets)
    mine.write_text("policy: threshold\nguard: {headroom_mb: 100}\n")
    found(recorded, *sets)

    assert count() == 5


def test_a_model_that_was_trained_anew_makes_a_point_another(recorded, tmp_path, monkeypatch):
    into, count = tmp_path / "results.jsonl", replayed(monkeypatch)
    model, mine = tmp_path / "model.json", tmp_path / "mine.yaml"
    mine.write_text(f"policy: learned\nparameters: {{model: {model}}}\n")
    sets = ("--set", "mine.patience=2", "--policy", mine, "--into", into)

    found(recorded, *sets)
    found(recorded, *sets)
    model.write_bytes(find_model("model.json").read_bytes())
    found(recorded, *sets)
    model.write_bytes(b"another")
    found(recorded, *sets)

    assert count() == 3


def test_the_machine_that_a_scenario_names_makes_a_point_another(scenario, tmp_path, monkeypatch):
    into, count = tmp_path / "results.jsonl", replayed(monkeypatch)
    machine = tmp_path / "played.yaml"
    scenario.write_text(f"{SCENARIO}played_on: {machine}\n")
    for remote_ns in (140, 140, 200):
        machine.write_text(f"source: made up\nlatency_ns: [[90, {remote_ns}], [{remote_ns}, 90]]\n")
        found("--scenario", scenario, "--set", "default.patience=2", "--into", into)

    assert count() == 2


def test_no_figure_is_cut_where_a_table_does_not_fit_a_terminal(recorded):
    keys = (
        "default.pays_within_s",
        "default.room_for_s",
        "default.at_once_within_s",
        "default.guard.cooldown_s",
    )

    shown = ran(recorded, *(word for key in keys for word in ("--set", f"{key}=2,3"))).stdout

    rows = [line.split("│")[1:-1] for line in shown.splitlines() if line.startswith("│")]
    assert len(rows) == 16
    assert {len(row) for row in rows} == {4 + 5}
    assert "…" not in shown
    assert all(cell.strip() for row in rows for cell in row)


def test_a_table_has_a_row_a_point(recorded):
    shown = ran(recorded, "--set", "default.patience=1,2").stdout

    rows = [re.findall(r"[\d.]+", line) for line in shown.splitlines() if line.startswith("│")]
    assert "a.jsonl: 2 points under default" in shown
    assert [row[0] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            "default.patienc=1",
            "found no 'default.patienc'; there is call_ns, memory_share, parallel_accesses, ",
        ),
        ("default.patienc=1", "default.makes_room_after_s, default.guard.limit_mb_per_s, "),
        ("jobs.late.groups=1", "found no 'jobs.late.groups'"),
        ("default.patience=0", "--set default: patience: found 0; at least one look is needed"),
        ("default.patience=1.5", "--set default: patience: found 1.5, allowed is a whole number"),
        ("default.guard.cache_share=2", "--set default.guard: cache_share: found 2; a share is between"),
        ("memory_share=2", "--set: memory_share: found 2; a share is between 0 and 1"),
        ("call_ns=-1", "--set: call_ns: found -1; must not be negative"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_replayed(recorded, monkeypatch, sets, said):
    count = replayed(monkeypatch)

    with pytest.raises(ProfileError, match=re.escape(said)):
        ran(recorded, "--set", sets, "--policy", "default")

    assert count() == 0


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ("memory.mb=1", "and of the scenario machine, jobs, length_s, every_s, seed, as in machine.cpus.0"),
        ("jobs.early.groups.0=1", "late.yaml: jobs: found no 'early', there is late"),
        ("jobs.late.groups.0.memory.0.gb=1", "found the unknown key 'gb', allowed is mb, kind"),
        ("jobs.late.groups.0.run.0.cores.1=9", "late: a process runs on more cores than a node has"),
    ],
)
def test_a_figure_that_the_scenario_has_not_is_refused(scenario, sets, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        ran("--scenario", scenario, "--set", sets)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "default.patience"), "needed is KEY=VALUES"),
        (("--into", "results.jsonl"), "is for the results of --set"),
        (("--set", "default.patience=1", "--html", "page.html"), "leave --set out"),
    ],
)
def test_a_command_that_makes_no_sense_says_so(recorded, arguments, said):
    assert said in ran(recorded, *arguments, status=2).stderr


def test_a_trace_without_ticks_is_told(tmp_path):
    path = tmp_path / "empty.jsonl"
    with trace.Writer(path, two_nodes.HEADER):
        pass

    with pytest.raises(trace.TraceError, match="no tick"):
        ran(path, "--set", "default.patience=1")


def test_a_held_scenario_is_refused():
    with pytest.raises(ProfileError, match="is held: only an evaluation reads it"):
        ran("--scenario", "late-binding", "--set", "default.patience=1")
