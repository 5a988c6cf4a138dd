# SPDX-License-Identifier: Apache-2.0

"""Several processes give, bit for bit, what one gives, say the same of damage, and end together."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import typer
from typer.testing import CliRunner

from numad_py import trace
from numad_py.cli import replaying
from numad_py.cli.simulate import simulate
from numad_py.trace import TraceError
from tests import two_nodes

POLICIES = ("--policy", "interleave", "--policy", "default", "--policy", "hold")


def ran(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(simulate)
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "a.jsonl"
    with trace.Writer(path, two_nodes.HEADER) as writer:
        for each in list(two_nodes.ticks())[:12]:
            writer.write(each)
    return path


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_policies_in_groups_come_to_what_they_do_side_by_side(recorded, monkeypatch, tmp_path, jobs):
    alone = ran(recorded, *POLICIES, "--json", "--jobs", 1, "--html", tmp_path / "1.html")
    monkeypatch.setattr(replaying, "WORTH_SPLITTING_BYTES", 0)

    apart = ran(recorded, *POLICIES, "--json", "--jobs", jobs, "--html", tmp_path / "2.html")

    assert apart == alone
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_traces_and_scenarios_come_to_the_same_in_several_processes(recorded):
    what = (recorded, recorded, "--scenario", "two-nodes", "--json")

    assert ran(*what, "--jobs", 2) == ran(*what, "--jobs", 1)


def test_a_small_trace_is_replayed_without_another_process(recorded, monkeypatch):
    monkeypatch.setattr("numad_py.sim.pool._in_processes", None)

    assert "12 ticks" in ran(recorded, "--jobs", 8)


def test_the_sentence_about_damage_is_the_same_from_another_process(recorded, tmp_path):
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(recorded.read_bytes() + b"{nonsense\n")

    said = []
    for jobs in (1, 2):
        with pytest.raises(TraceError) as caught:
            ran(recorded, damaged, "--jobs", jobs)
        said.append(str(caught.value))

    assert said[0] == said[1]
    assert f"{damaged}, line 14: JSON is malformed" in said[0]


def test_what_a_lenient_reading_passed_over_is_counted_once(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(replaying, "WORTH_SPLITTING_BYTES", 0)
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(recorded.read_bytes() + b"{nonsense\n")

    (replayed,) = json.loads(ran(damaged, "--lenient", "--json", "--jobs", 2))

    assert replayed["passed_over"] == {"unreadable line": {"places": 1, "lines": 1, "first_line": 14}}


def sweeping(into):
    """Begin a sweep that nobody would wait for, in a process group of its own, and wait for its first results."""
    command = [sys.executable, "-m", "numad_py", "simulate", "sim/traces/two-nodes.jsonl.zst", "--jobs", "2"]
    command += ["--set", "default.patience=1..5000", "--into", str(into)]
    running = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while running.poll() is None and not (into.exists() and into.stat().st_size):
        time.sleep(0.05)
    return running, psutil.Process(running.pid).children(recursive=True)


def test_ctrl_c_ends_every_process_with_one_sentence_and_the_sweep_goes_on_from_there(tmp_path):
    into = tmp_path / "results.jsonl"
    running, others = sweeping(into)

    os.killpg(running.pid, signal.SIGINT)
    shown, said = running.communicate(timeout=120)

    assert (running.returncode, shown) == (130, "")
    assert said == (
        f"numad-py: stopped by Ctrl-C; what is done is in {into}, and the same command goes on from there\n"
    )
    assert len(others) >= 3
    assert psutil.wait_procs(others, timeout=60)[1] == []


def test_nobody_goes_on_for_a_process_that_was_killed(tmp_path):
    running, others = sweeping(tmp_path / "results.jsonl")

    running.kill()
    running.communicate()

    assert psutil.wait_procs(others, timeout=60)[1] == []
