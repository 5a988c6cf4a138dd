# SPDX-License-Identifier: Apache-2.0

"""What was counted is published every few seconds, at once where acting begins or ends, and only where it is wanted."""

import contextlib
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from numad_py.act.gate import Gate
from numad_py.daemon import metrics
from tests.builders import process, tick


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """Give the folder that systemd makes for the daemon."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def gate():
    return Gate()


def published(gate, path="metrics.prom", period_s=1000.0):
    return metrics.published(gate, lambda: 0.003, lambda: 0, path, period_s=period_s)


def turn():
    return tick(processes=[process(pages={0: 900}, cpu_s={1: 1.0})])


def test_the_first_turn_is_published_and_the_next_ones_once_in_a_period(runtime, gate):
    with published(gate) as (sink,):
        for _ in range(3):
            sink.write(turn())
        text = (runtime / "metrics.prom").read_bytes()

    assert text == sink.text
    assert b"\nnumad_turns_total 1.0\n" in text
    assert (
        b'\nnumad_job_remote_bytes{cgroup="/train.slice/job",node="0",profile="default"} 3.6864e+06\n' in text
    )


def test_every_turn_is_published_where_it_is_longer_than_the_period(runtime, gate):
    with published(gate, period_s=0.0) as (sink,):
        for _ in range(3):
            sink.write(turn())

    assert b"\nnumad_turns_total 3.0\n" in sink.text


def test_that_it_stops_acting_is_published_with_the_next_turn(runtime, gate):
    with published(gate) as (sink,):
        sink.write(turn())
        gate.close("operator", "paused")
        sink.write(turn())
        paused = sink.text
        gate.open("operator")
        sink.write(turn())

    assert b'\nnumad_not_acting{who="operator",why="paused"} 1.0\n' in paused
    assert b"\nnumad_acting 1.0\n" in sink.text


def test_after_an_orderly_end_nobody_takes_the_last_values_for_those_of_now(runtime, gate):
    with published(gate) as (sink,):
        sink.write(turn())

    assert list(runtime.iterdir()) == []


def test_after_a_crash_the_file_grows_old(runtime, gate):
    with contextlib.suppress(RuntimeError), published(gate) as (sink,):
        sink.write(turn())
        raise RuntimeError

    assert (runtime / "metrics.prom").exists()


@pytest.mark.parametrize("path", ["/somewhere/metrics.prom", "metrics.prom"])
def test_a_path_of_ones_own_counts_with_and_without_systemd(tmp_path, monkeypatch, gate, path):
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)

    with published(gate, path) as sinks:
        assert len(sinks) == path.startswith("/")


def test_where_nobody_would_read_them_nothing_is_counted(runtime, gate):
    with published(gate, None) as sinks:
        assert sinks == []


def test_a_daemon_without_metrics_does_not_take_the_memory_for_them():
    code = "import sys, numad_py.daemon.running; print('numad_py.daemon.metrics' in sys.modules, 'prometheus_client' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout

    assert told == "True False\n"


def test_without_the_library_that_is_said_and_the_daemon_goes_on(runtime, gate, monkeypatch):
    monkeypatch.delattr(metrics, "exposition", raising=False)
    monkeypatch.setitem(sys.modules, "numad_py.daemon.metrics.exposition", None)

    with capture_logs() as log, published(gate) as sinks:
        assert sinks == []

    assert [(line["event"], "numad-py[metrics]" in line["why"]) for line in log] == [("no metrics", True)]


def test_a_name_that_is_no_text_is_escaped(runtime, gate):
    with published(gate) as (sink,):
        gate.close("health", 'a "b" \\ \udcff\n')
        sink.write(turn())

    assert b'{who="health",why="a \\"b\\" \\\\ \\\\udcff\\\\n"} 1.0\n' in sink.text
