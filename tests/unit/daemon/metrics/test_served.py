# SPDX-License-Identifier: Apache-2.0

"""The daemon as systemd starts it: with a folder for the file, and with sockets that it did not open."""

import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request

import pytest

from numad_py.daemon import activation
from numad_py.kernel import cgroup

pytestmark = pytest.mark.skipif(cgroup.read_mount_point() is None, reason="no cgroup v2 is mounted here")

# What systemd does last: descriptors from 3 on, their number and names, and the PID that they are meant for.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="other:metrics")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def daemon(listening, tmp_path):
    """Start the daemon with a folder for its file, and give its process once it says so."""
    (tmp_path / "numad.yaml").write_text("period_s: 0.1\n")
    command = [sys.executable, "-m", "numad_py", "daemon", "--config", tmp_path / "numad.yaml"]
    inherited = [0, 1, 2, listening.fileno()]
    running = subprocess.Popen(
        [sys.executable, "-c", AS_SYSTEMD, str(listening.fileno()), *command],
        env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)},
        pass_fds=inherited,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "event=started" in running.stderr.readline()
    yield running
    running.kill()
    running.communicate()


def until(found, *, for_s=20.0):
    """Ask until there is an answer, and give it."""
    late_s = time.monotonic() + for_s
    while not (answer := found()):
        assert time.monotonic() < late_s
        time.sleep(0.05)
    return answer


def test_the_file_is_there_after_the_first_turn_and_gone_after_the_last(daemon, tmp_path):
    path = tmp_path / "metrics.prom"
    until(path.exists)
    mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text()

    daemon.terminate()
    daemon.communicate(timeout=60)

    assert (daemon.returncode, mode, path.exists()) == (0, 0o640, False)
    assert "\nnumad_acting 0.0\n" in text
    assert 'numad_not_acting{who="configuration",why="mode: observe"} 1.0\n' in text


def test_a_socket_that_systemd_opened_answers_with_what_is_in_the_file(daemon, listening, tmp_path):
    until((tmp_path / "metrics.prom").exists)

    with urllib.request.urlopen(f"http://127.0.0.1:{listening.getsockname()[1]}/metrics", timeout=60) as got:
        told, kind = got.read(), got.headers["Content-Type"]

    assert told == (tmp_path / "metrics.prom").read_bytes()
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "metrics"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "control"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"},
    ],
)
def test_what_is_meant_for_others_is_left_to_them(monkeypatch, environment):
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert activation.sockets("metrics") == []
