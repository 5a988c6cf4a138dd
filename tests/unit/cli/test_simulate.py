# SPDX-License-Identifier: Apache-2.0

"""``numad-py simulate`` prints one table per trace, and says in one sentence what is wrong with its input."""

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from numad_py import trace
from numad_py.cli.simulate import simulate
from numad_py.profile import ProfileError
from numad_py.sim.baselines import BASELINES
from tests import two_nodes
from tests.builders import process, tick, topology

ROOT = Path(__file__).parents[3]

SHIPPED = ROOT / "sim" / "traces" / "two-nodes.jsonl.zst"


def ran(*arguments, fails=False):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(simulate)
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code != 0) == fails, result.output
    return result


def written(path, ticks, header=two_nodes.HEADER):
    with trace.Writer(path, header) as writer:
        for each in ticks:
            writer.write(each)
    return path


def short(path, count=3):
    return written(path, list(two_nodes.ticks())[:count])


def figures(*arguments):
    return json.loads(ran(*arguments, "--json").stdout)


def test_a_trace_is_shown_beside_doing_nothing_under_the_shipped_policies(tmp_path):
    shown = ran(short(tmp_path / "a.jsonl")).stdout

    assert "a.jsonl: 2 nodes, 3 ticks, 2 s" in shown
    assert [name in shown for name in ("hold", "default", "interleave")] == [True] * 3
    assert "Modelled, not measured" in shown


def test_the_late_bound_and_the_crossed_jobs_of_the_shipped_trace_are_repaired():
    (replayed,) = figures(SHIPPED, "--policy", "default")

    hold, default = replayed["policies"]["hold"], replayed["policies"]["default"]
    assert hold["local_share_end"] < 0.5
    assert hold["moved_bytes"] == 0
    assert default["local_share_end"] > 0.99
    assert default["modelled_time_to_hold"] < 1
    assert default["settle_s"]["/training.slice/late-bound.scope"] < 15


def test_a_name_in_brackets_is_shown_as_it_is(tmp_path):
    shown = ran(short(tmp_path / "a[bold]b:100:.jsonl")).stdout

    assert "a[bold]b:100:.jsonl: 2 nodes" in shown


def test_a_policy_may_be_a_name_or_a_file_and_is_called_as_it_was_given(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("policy: hold\n")

    (replayed,) = figures(short(tmp_path / "a.jsonl"), "--policy", "hold", "--policy", mine)

    assert list(replayed["policies"]) == ["hold", str(mine)]
    assert replayed["policies"]["hold"] == replayed["policies"][str(mine)]


def test_each_trace_is_replayed_with_policies_that_remember_no_other(tmp_path):
    path = short(tmp_path / "a.jsonl", count=8)

    first, second = figures(path, path)

    assert first == second


def test_a_machine_file_changes_what_time_is_modelled(tmp_path):
    path = short(tmp_path / "a.jsonl")

    (near,), (far,) = (
        figures(path, "--machine", ROOT / "sim" / "machines" / f"{name}.yaml")
        for name in ("two-socket-xeon-gold-6240", "two-socket-xeon-e5-2680-v2")
    )

    assert near["policies"]["hold"]["modelled_s"] < far["policies"]["hold"]["modelled_s"]


def test_figures_that_nobody_has_published_are_named(tmp_path):
    guessed, measured = (
        ran(
            short(tmp_path / f"{name}.jsonl"),
            "--machine",
            ROOT / "sim" / "machines" / f"two-socket-{name}.yaml",
        ).stderr
        for name in ("epyc-7742", "xeon-e5-2680-v3")
    )

    assert "nobody has published latency_ns, controller_gb_per_s, link_gb_per_s" in guessed
    assert "nobody has published parallel_accesses" in measured


def test_a_machine_with_other_nodes_is_refused(tmp_path):
    machine = ROOT / "sim" / "machines" / "cxl-beside-two-sockets.yaml"

    with pytest.raises(ProfileError, match="found 3 nodes, the trace has 2"):
        ran(short(tmp_path / "a.jsonl"), "--machine", machine)


def test_a_measured_price_in_the_header_is_used(tmp_path):
    def moving_s(price_ns):
        header = trace.Header(topology(), "6.1", two_nodes.HEADER.boot_id, 0.0, move_4k_page_ns=price_ns)
        late = [tick(time_s=at, processes=[process(pages={0: 51200}, cpu_s={1: 1.0})]) for at in range(9)]
        path = written(tmp_path / f"{price_ns}.jsonl", late, header)
        (replayed,) = figures(path)
        return replayed["policies"]["default"]["moving_s"]

    assert moving_s(5000.0) == pytest.approx(2 * moving_s(2500.0), rel=1e-3)


def test_moving_costs_what_it_does_under_the_kernel_that_is_asked_for(tmp_path):
    path = short(tmp_path / "a.jsonl", 20)

    new, old = (
        figures(path, "--policy", "default", "--kernel", kernel)[0]["policies"]["default"]
        for kernel in ("6.3", "5.15.0")
    )

    assert old["moved_bytes"] == new["moved_bytes"]
    assert old["moving_s"] > 3 * new["moving_s"] > 0


def test_a_kernel_that_is_no_version_is_a_mistake_in_the_command(tmp_path):
    result = ran(short(tmp_path / "a.jsonl"), "--kernel", "new", fails=True)

    assert (result.exit_code, "a version as in 6.1 is needed" in result.output) == (2, True)


def test_a_shorter_deadline_moves_more_slowly(tmp_path):
    path = short(tmp_path / "a.jsonl", count=7)

    (slow,), (quick,) = figures(path, "--deadline", 0.01), figures(path)

    assert 0 < slow["policies"]["default"]["moved_bytes"] < quick["policies"]["default"]["moved_bytes"]


def test_damage_is_told_with_its_line_and_lenient_goes_on(tmp_path):
    path = short(tmp_path / "a.jsonl")
    with path.open("a") as file:
        file.write("{nonsense\n")

    with pytest.raises(trace.TraceError, match="line 5"):
        ran(path)
    lenient = ran(path, "--lenient")

    assert "3 ticks" in lenient.stdout
    assert "line 5: JSON is malformed" in lenient.stderr
    assert "passed over for unreadable line, all in all: places 1, lines 1\n" in lenient.stderr
    (replayed,) = figures(path, "--lenient")
    assert replayed["passed_over"] == {"unreadable line": {"places": 1, "lines": 1, "first_line": 5}}


def test_a_trace_without_ticks_is_told(tmp_path):
    with pytest.raises(trace.TraceError, match="no tick"):
        ran(written(tmp_path / "empty.jsonl", []))


def test_a_trace_that_is_not_there_is_a_mistake_in_the_command():
    result = ran("/nonexistent/trace.jsonl", fails=True)

    assert result.exit_code == 2
    assert "/nonexistent/trace.jsonl: No such file" in " ".join(result.stderr.replace("│", " ").split())


def test_an_unknown_policy_is_told_with_those_that_exist(tmp_path):
    with pytest.raises(ProfileError, match="default"):
        ran(short(tmp_path / "a.jsonl"), "--policy", "nonsense")


def on_a_terminal(tmp_path, *arguments):
    """Run the verb with a terminal as its standard error, and give what came there."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    code = "from numad_py.cli import main, progress; progress._QUIET_S = 0; main.main()"
    command = [sys.executable, "-c", code, "simulate", short(tmp_path / "a.jsonl", count=8), *arguments]
    environment = os.environ | {"TERM": "xterm"}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=follower, check=True, env=environment)
    told = os.read(leader, 1 << 16) if select.select([leader], [], [], 0)[0] else b""
    os.close(leader)
    os.close(follower)
    return told.decode()


def test_a_long_run_shows_on_a_terminal_how_much_of_the_trace_is_read(tmp_path):
    told = on_a_terminal(tmp_path)

    assert "replaying a.jsonl" in told
    assert "%" in told


def test_no_progress_is_shown_beside_json(tmp_path):
    assert on_a_terminal(tmp_path, "--json") == ""


def test_no_progress_is_shown_in_a_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr("numad_py.cli.progress._QUIET_S", 0)

    assert ran(short(tmp_path / "a.jsonl")).stderr == ""


def test_a_scenario_is_played_by_its_name_on_a_machine_by_its_name():
    arguments = "--scenario", "late-bound-worker", "--machine", "two-socket-xeon-gold-6240"
    (played,) = figures(*arguments, "--policy", "default")

    default = played["policies"]["default"]
    assert played["trace"].endswith("sim/scenarios/late-bound-worker.yaml")
    assert 0 < default["gained_share"] <= 1
    assert default["least_s"] <= default["modelled_s"] < played["policies"]["hold"]["modelled_s"]


def test_baselines_are_policies_by_their_names(tmp_path):
    names = list(BASELINES)

    found = figures(short(tmp_path / "a.jsonl", 20), *(f"--policy={name}" for name in names))

    assert list(found[0]["policies"]) == ["hold", *names]
    assert found[0]["policies"]["best-static-binding"]["task_moves"] > 0


def test_traces_and_scenarios_stand_side_by_side(tmp_path):
    found = figures(short(tmp_path / "a.jsonl"), "--scenario", "two-nodes")

    assert [Path(each["trace"]).name for each in found] == ["a.jsonl", "two-nodes.yaml"]


def test_without_a_trace_or_a_scenario_it_says_what_scenarios_there_are():
    assert "before-fork" in ran(fails=True).output


def test_an_unknown_scenario_or_machine_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="'nowhere' in scenarios; there is before-fork"):
        ran("--scenario", "nowhere")
    with pytest.raises(ProfileError, match="'nowhere' in machines"):
        ran(short(tmp_path / "a.jsonl"), "--machine", "nowhere")


LATE = """
about: a test
published: nothing
published_effects: [{figure: local_share_end, policy: hold, value: VALUE, kind: KIND}]
marks: [{mark: fitted, figures: [jobs], source: a job}, {mark: sourced, figures: [machine, length_s], source: a table}]
length_s: 20
machine: {cpus: [4, 4], memory_mb: [1000, 1000], file_mb: [64, 64], distances: [[10, 21], [21, 10]]}
jobs: [{name: late, groups: [{run: [{at_s: 0, cores: [0, CORES]}], memory: [{kind: heap, mb: [600, 0]}]}]}]
"""


def late(tmp_path, *, value=0.0, kind="fitted", cores=2):
    path = tmp_path / "late.yaml"
    path.write_text(LATE.replace("VALUE", str(value)).replace("KIND", kind).replace("CORES", str(cores)))
    return path


def test_a_scenario_tells_how_far_each_policy_depends_on_what_was_fitted(tmp_path):
    (played,) = figures("--scenario", late(tmp_path), "--policy", "default")

    ranges = played["modelled_time_to_hold_ranges"]
    low, high = ranges["default"]
    assert ranges["hold"] == [1.0, 1.0]
    assert low < played["policies"]["default"]["modelled_time_to_hold"] < high
    assert "fitted figures ±20 %" in ran("--scenario", late(tmp_path)).stdout


def test_a_variant_that_makes_no_sense_is_noted(tmp_path):
    (played,) = figures("--scenario", late(tmp_path, cores=4), "--policy", "default")

    (note,) = played["notes"]
    assert note.startswith("not played: a job, +20%: ")
    assert note.endswith("late: a process runs on more cores than a node has")


def test_a_scenario_that_names_its_machine_says_so_and_what_is_unknown_of_that(tmp_path):
    path = late(tmp_path)
    path.write_text(path.read_text() + "played_on: two-socket-epyc-7742\n")

    (itself,), (other,) = (
        figures("--scenario", path, "--policy", "default", *machine)
        for machine in ((), ("--machine", "two-socket-xeon-gold-6240"))
    )

    (note,) = itself["notes"]
    assert note.startswith("played on two-socket-epyc-7742; of what nobody has published, latency_ns, ")
    assert other["notes"] == []
    assert itself["policies"]["hold"]["modelled_s"] != other["policies"]["hold"]["modelled_s"]


@pytest.mark.parametrize(
    ("kind", "value", "word"),
    [("fitted", 0.0, "calibrated"), ("independent", 0.0, "validated"), ("independent", 0.5, "not validated")],
)
def test_the_head_of_a_scenario_s_table_says_what_its_published_effect_proves(tmp_path, kind, value, word):
    shown = ran("--scenario", late(tmp_path, kind=kind, value=value)).stdout

    assert re.search(rf"late\.yaml: 2 nodes, 20 ticks, 19 s, {word}\s", shown)
    assert f"{word}: local_share_end under hold was published as {value:g} and is 0 here" in shown


def test_a_held_scenario_is_refused_by_name_and_by_file():
    for name in ("late-binding", ROOT / "sim" / "scenarios" / "held" / "late-binding.yaml"):
        with pytest.raises(ProfileError, match="is held: only an evaluation reads it"):
            ran("--scenario", name)
