# SPDX-License-Identifier: Apache-2.0

"""The daemon as its users run it, on this very machine: it starts, speaks, records, and ends when told to."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from itertools import islice

import pytest

from numad_py import trace
from numad_py.kernel import cgroup, node_sysfs

pytestmark = pytest.mark.skipif(cgroup.read_mount_point() is None, reason="no cgroup v2 is mounted here")

ONE_NODE = len(node_sysfs.read_topology().nodes) == 1
QUICK = "mode: observe\nperiod_s: 0.1\n"


@pytest.fixture
def daemon(tmp_path):
    """Give a function that starts the daemon with some options and waits until it says so."""
    started = []

    def start(*options, config=QUICK):
        path = tmp_path / "numad.yaml"
        path.write_text(config)
        words = [sys.executable, "-m", "numad_py", "daemon", "--config", path, *options]
        started.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        first = started[-1].stderr.readline()
        assert "event=started" in first, first
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_with_success_and_its_own_cost(daemon, number):
    running = daemon()
    time.sleep(0.3)

    began_s = time.monotonic()
    running.send_signal(number)
    _, rest = running.communicate(timeout=10)

    assert time.monotonic() - began_s < 2
    assert running.returncode == 0
    assert re.search(r"event=stopped .* up_s=\d+\.\d cpu_s=\d+\.\d+ rss_mb=\d+\.\d$", rest, re.MULTILINE)


def test_a_signal_right_after_its_first_word_ends_it_as_any_other(daemon):
    running = daemon()

    running.terminate()
    _, rest = running.communicate(timeout=10)

    assert (running.returncode, "event=stopped" in rest) == (0, True)


@pytest.mark.skipif(not ONE_NODE, reason="this machine has several nodes")
def test_on_one_node_it_says_that_there_is_nothing_to_move_and_observes_on(daemon):
    running = daemon("--verbose", config="mode: act\nperiod_s: 0.1\n")

    told = running.stderr.readline()
    said = (running.stderr.readline() for _ in range(30))
    turns = list(islice((line for line in said if 'event="not seen"' not in line), 3))

    assert "single NUMA node; there is nothing to move, observing on" in told
    assert all("event=tick" in turn for turn in turns), turns


def test_once_ends_by_itself_and_its_trace_is_private_and_readable(daemon, tmp_path):
    path = tmp_path / "trace.jsonl.zst"

    running = daemon("--once", "--trace", path)
    running.communicate(timeout=30)

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
    running.communicate(timeout=10)

    _, ticks = trace.read(path)
    assert len(list(ticks)) >= 1
    assert [each.name for each in trace.ring_segments(path)] == ["trace.000001.jsonl"]
