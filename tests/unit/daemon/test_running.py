# SPDX-License-Identifier: Apache-2.0

"""The daemon as its users run it, on this very machine: it starts, speaks, records, and ends when told to."""

import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice, pairwise

import pytest
from structlog.testing import capture_logs

from numad_py import trace
from numad_py.act.affinity_journal import Change, Narrowed
from numad_py.daemon import kept
from numad_py.daemon.config import Config
from numad_py.daemon.recording import written
from numad_py.daemon.running import Daemon, kernel_balances, run
from numad_py.daemon.service import Service
from numad_py.kernel import cgroup, node_sysfs
from numad_py.model import Decision, Explanation
from tests.builders import TWO_NODES, snapshot, topology
from tests.builders import tick as tick_of
from tests.jobs import CPUS, FIRST, new_job  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(cgroup.read_mount_point() is None, reason="no cgroup v2 is mounted here")

ONE_NODE = len(node_sysfs.read_topology().nodes) == 1
QUICK = "mode: observe\nperiod_s: 0.1\n"
HEADER = trace.Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9)


def heard_until(daemon, word):
    """Give what it says, up to a line with that word."""
    heard = []
    for line in daemon.stderr:
        heard.append(line)
        if word in line:
            return heard
    raise AssertionError(f"it ended, and never said {word!r}: {heard}")


@pytest.fixture
def daemon(tmp_path):
    """Give a function that starts the daemon with some options and waits until it says so."""
    started = []

    def start(*options, config=QUICK, environ=None):
        path = tmp_path / "numad.yaml"
        path.write_text(config)
        words = [sys.executable, "-m", "numad_py", "daemon", "--config", path, *options]
        folders = {"STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
        environment = os.environ | folders | dict(environ or {})
        started.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment))
        heard_until(started[-1], "event=started")
        return started[-1]

    yield start
    for each in started:
        if not each.stderr.closed:
            each.kill()
            each.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_with_success_and_its_own_cost(daemon, number):
    running = daemon(config="mode: observe\nperiod_s: 60\n")
    time.sleep(0.3)

    began_s = time.monotonic()
    running.send_signal(number)
    _, rest = running.communicate(timeout=60)

    assert time.monotonic() - began_s < 30
    assert running.returncode == 0
    assert re.search(r"event=stopped .* up_s=\d+\.\d cpu_s=\d+\.\d+ rss_mb=\d+\.\d$", rest, re.MULTILINE)


def test_a_signal_right_after_its_first_word_ends_it_as_any_other(daemon):
    running = daemon()

    running.terminate()
    _, rest = running.communicate(timeout=60)

    assert (running.returncode, "event=stopped" in rest) == (0, True)


@pytest.mark.skipif(not ONE_NODE, reason="this machine has several nodes")
def test_on_one_node_it_says_that_there_is_nothing_to_move_and_observes_on(daemon):
    running = daemon("--verbose", config="mode: act\nperiod_s: 0.1\n")

    told = heard_until(running, "single NUMA node")[-1]
    said = (running.stderr.readline() for _ in range(30))
    turns = list(islice((line for line in said if "event=tick" in line), 3))

    assert "single NUMA node; there is nothing to move, observing on" in told
    assert len(turns) == 3


def test_once_ends_by_itself_and_its_trace_is_private_and_readable(daemon, tmp_path):
    path = tmp_path / "trace.jsonl.zst"

    running = daemon("--once", "--trace", path)
    running.communicate(timeout=60)

    header, ticks = trace.read(path)
    assert running.returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert header.kernel == os.uname().release
    assert 1 <= len(list(ticks)) <= 10


def test_a_flight_recorder_ends_whole_when_a_signal_comes(daemon, tmp_path):
    path = tmp_path / "trace.jsonl"
    running = daemon("--trace", path, "--trace-ring", "8M")
    time.sleep(0.3)

    running.terminate()
    running.communicate(timeout=60)

    _, ticks = trace.read(path)
    assert len(list(ticks)) >= 1
    segments = trace.ring_segments(path)
    machines = [trace.read(segment)[0].topology for segment in segments]
    assert segments[0].name == "trace.000001.jsonl"
    assert all(
        before != after for before, after in pairwise(machines)
    )  # a virtual machine may change while it runs


def test_a_reload_takes_what_the_file_says_now(daemon, tmp_path):
    running = daemon()
    (tmp_path / "numad.yaml").write_text(
        "mode: observe\nperiod_s: 0.2\ntrace: /nowhere/trace.jsonl\ntrace_ring_mb: 64\n"
    )

    running.send_signal(signal.SIGHUP)
    heard = heard_until(running, "next start")

    assert "event=reloaded changed=period_s,trace,trace_ring_mb\n" in heard[-2]
    assert "keys=trace,trace_ring_mb" in heard[-1]


def test_a_reload_of_a_broken_file_is_told_and_all_stays_as_it_was(daemon, tmp_path):
    running = daemon("--verbose")
    (tmp_path / "numad.yaml").write_text("mode: atc\n")

    running.send_signal(signal.SIGHUP)
    told = heard_until(running, "not reloaded")[-1]
    heard_until(running, "event=tick")

    assert "numad.yaml: mode: found 'atc', allowed is observe, act" in told
    assert "the old configuration stays" in told
    assert running.poll() is None


def test_a_reload_may_let_it_act_and_forbid_it_again(daemon, tmp_path):
    running = daemon()
    heard_until(running, "mode: observe")
    (tmp_path / "numad.yaml").write_text("mode: act\nperiod_s: 0.1\n")

    running.send_signal(signal.SIGHUP)
    (*_, acting) = heard_until(running, 'why="one node' if ONE_NODE else "event=acting")
    (tmp_path / "numad.yaml").write_text(QUICK)
    running.send_signal(signal.SIGHUP)
    (*_, observing) = heard_until(running, "mode: observe")

    assert "mode" not in acting
    assert 'event="not acting"' in observing


def test_three_crashes_let_it_observe(daemon):
    for _ in range(3):
        running = daemon(config="mode: act\nperiod_s: 0.1\n")
        running.kill()
        running.communicate()

    heard = heard_until(daemon(config="mode: act\nperiod_s: 0.1\n"), "not acting")

    assert "health: 3 crashes within 10 minutes" in heard[-1]


def asked(tmp_path, *words):
    """Give what a client of the daemon prints."""
    environment = os.environ | {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
    command = [sys.executable, "-m", "numad_py", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may pause")
def test_a_pause_survives_a_kill_and_a_restart_and_ends_with_resume(daemon, tmp_path):
    running = daemon()
    asked(tmp_path, "pause")
    heard_until(running, "operator: paused since")
    running.kill()
    running.communicate()

    running = daemon()
    heard_until(running, "operator: paused since")
    paused = asked(tmp_path, "status")
    asked(tmp_path, "resume")
    (*_, resumed) = heard_until(running, "not acting")

    assert "not acting: operator: paused since" in paused
    assert "operator" not in resumed


def test_what_clients_ask_of_the_loop_is_done_at_the_end_of_a_turn_that_begins_at_once(tmp_path, monkeypatch):
    daemon = Daemon(lambda: Config(period_s=600.0), tmp_path, dry_run=False)
    done, office = [], daemon.office()
    monkeypatch.setattr(daemon.service, "restore_affinities", lambda: done.append("restored"))
    monkeypatch.setattr(daemon.health, "resume", lambda: done.append("resumed"))

    with closing(daemon.ticks()) as ticks:
        next(ticks)
        office.restore()
        office.resume()
        asked = list(done)
        next(ticks)

    assert (asked, done) == ([], ["restored", "resumed"])


def test_between_two_turns_the_loop_asks_its_policy_what_clients_want_explained(tmp_path, monkeypatch):
    daemon = Daemon(lambda: Config(period_s=0.1), tmp_path, dry_run=False)
    office, told = daemon.office(), Explanation(Decision.STAY)
    monkeypatch.setattr(daemon.service.policy, "explain", {1: told}.__getitem__)

    with closing(daemon.ticks()) as ticks:
        next(ticks)
        answers = [office.explain(1), office.explain(2), office.explain(1)]
        answers[2].cancel()
        before = [answer.done() for answer in answers]
        next(ticks)

    assert before == [False, False, True]
    assert answers[0].result(0) is told
    assert isinstance(answers[1].exception(0), KeyError)


def test_a_second_daemon_refuses_to_start(daemon, tmp_path):
    daemon()

    with pytest.raises(AssertionError, match=r"numad-py: another daemon runs: it holds .*run/lock"):
        daemon()


def test_a_rehearsal_leaves_nothing_behind(daemon, tmp_path):
    running = daemon("--dry-run", "--once", config="mode: act\nperiod_s: 0.1\n")

    (*_, told) = heard_until(running, "not acting")
    running.communicate(timeout=60)

    assert "command line: --dry-run" in told
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "run").exists()


def narrow(affinities, job, process):
    """Give a process of a job our first CPU, as a daemon would that acts on two nodes."""
    noted = Narrowed(job.cgroup_id, str(job.directory))
    affinities.note([Change(noted, process.key, frozenset(FIRST), frozenset(CPUS))])
    os.sched_setaffinity(process.pid, FIRST)


def test_a_start_after_a_kill_restores_affinities_and_says_so(daemon, tmp_path, new_job):  # noqa: F811
    job, folder = new_job(), tmp_path / "state"
    folder.mkdir()
    narrow(kept.journal(folder), job, job.start())

    running = daemon()
    running.terminate()
    running.communicate(timeout=60)

    assert job.masks() == [CPUS]


def test_a_reload_restores_affinities_before_it_goes_on(tmp_path, new_job):  # noqa: F811
    job = new_job()
    daemon = Daemon(lambda: Config(period_s=0.1), tmp_path, dry_run=False)

    with capture_logs() as log, closing(daemon.ticks()) as ticks:
        next(ticks)
        narrow(daemon.service.affinities, job, job.start())
        daemon.reload()
        next(ticks)

    said = [line["event"] for line in log if line["event"] in ("affinities restored", "reloaded")]
    assert (said, job.masks()) == (["affinities restored", "reloaded"], [CPUS])


def test_a_rehearsal_leaves_the_affinities_of_the_daemon_that_runs(daemon, tmp_path, new_job):  # noqa: F811
    job, folder = new_job(), tmp_path / "state"
    folder.mkdir()
    narrow(kept.journal(folder), job, job.start())

    daemon("--dry-run", "--once").communicate(timeout=60)

    assert job.masks() == [FIRST]
    assert kept.restore(kept.journal(folder)).threads == 1


def test_an_error_of_its_own_leaves_no_affinity_changed(monkeypatch, tmp_path, new_job):  # noqa: F811
    job = new_job()

    def crash(daemon):
        narrow(daemon.service.affinities, job, job.start())
        raise ZeroDivisionError

    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(Daemon, "ticks", crash)
    with pytest.raises(ZeroDivisionError):
        run(Config, dry_run=False, once=False)

    assert job.masks() == [CPUS]


def test_a_second_signal_leaves_no_affinity_changed(monkeypatch, tmp_path, new_job):  # noqa: F811
    job, restore = new_job(), Service.restore_affinities

    def interrupted(service):
        os.kill(os.getpid(), signal.SIGINT)
        return restore(service)

    def end(daemon):
        narrow(daemon.service.affinities, job, job.start())
        monkeypatch.setattr(Service, "restore_affinities", interrupted)
        return iter(())

    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(Daemon, "ticks", end)
    run(Config, dry_run=False, once=False)

    assert job.masks() == [CPUS]


def test_what_ends_before_it_hears_signals_is_no_crash(tmp_path):
    Daemon(Config, tmp_path, dry_run=False)

    assert not (tmp_path / "health.json").exists()


def test_the_manager_is_told_that_it_is_ready_alive_reloading_and_at_its_end(daemon, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        running = daemon(environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
        told = [manager.recv(4096).decode() for _ in range(3)]
        running.send_signal(signal.SIGHUP)
        while "RELOADING=1" not in told[-1]:
            told.append(manager.recv(4096).decode())
        told.append(manager.recv(4096).decode())
        running.terminate()
        while told[-1] != "STOPPING=1":
            told.append(manager.recv(4096).decode())

    assert told[:2] == ["WATCHDOG_USEC=300000", "READY=1"]  # three turns of 0.1 s
    assert told[2].startswith("WATCHDOG=1\nSTATUS=not acting: configuration: mode: observe")
    assert told[told.index(next(each for each in told if "RELOADING=1" in each)) + 1] == "READY=1"


def test_a_trace_of_one_file_ends_where_nodes_come_or_go(tmp_path):
    with capture_logs() as log, trace.Writer(tmp_path / "trace.jsonl", HEADER) as writer:
        same = written(writer, tick_of(snapshot(1.0)))
        after = written(same, tick_of(snapshot(2.0, on=topology(3))))
        written(after, tick_of(snapshot(3.0)))

    assert [each.snapshot.time_s for each in trace.read(tmp_path / "trace.jsonl")[1]] == [1.0]
    assert [line["event"] for line in log] == ["trace ended"]


class FullDisk:
    """Has no room for a tick."""

    def write(self, tick):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_the_trace_with_one_warning_and_nothing_else():
    with capture_logs() as log:
        after = written(FullDisk(), tick_of(snapshot(1.0)))
        written(after, tick_of(snapshot(2.0)))

    assert [line["event"] for line in log] == ["trace ended"]
    assert log[0]["note"] == "[Errno 28] No space left on device"


@pytest.mark.parametrize(("text", "balances"), [("0\n", False), ("1\n", True), ("2\n", True), (None, False)])
def test_whether_the_kernel_moves_pages_too_is_read(tmp_path, text, balances):
    if text is not None:
        (tmp_path / "proc/sys/kernel").mkdir(parents=True)
        (tmp_path / "proc/sys/kernel/numa_balancing").write_text(text)

    assert kernel_balances(tmp_path) == balances
