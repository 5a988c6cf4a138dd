# SPDX-License-Identifier: Apache-2.0

"""A job says how far it came, and is never kept from its work by that."""

import socket
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest

from numad_py.runtime import one_step, progress

SAYS_TWICE = """
import sys
from numad_py.runtime import progress
progress(41.5)
progress(42)
print(*sorted({"numpy", "msgspec", "numad_py.model"} & set(sys.modules)))
"""


@pytest.fixture
def listener(tmp_path, monkeypatch):
    """Listen where reports go."""
    monkeypatch.setattr("numad_py.runtime.reporting._next_s", 0.0)
    monkeypatch.setattr("numad_py.runtime.reporting._steps", 0)
    monkeypatch.setenv("NUMAD_PROGRESS", str(tmp_path / "progress"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(tmp_path / "progress"))
        yield listener


def test_one_datagram_says_how_far_it_came(listener):
    progress(1234)

    assert listener.recv(64) == b"1234.0"


def test_another_soon_after_is_not_sent_and_nothing_large_is_imported(listener):
    ran = subprocess.run([sys.executable, "-c", SAYS_TWICE], check=True, capture_output=True, text=True)

    assert listener.recv(64) == b"41.5"
    with pytest.raises(BlockingIOError):
        listener.recv(64)
    assert ran.stdout == "\n"


def test_nobody_waits_where_nobody_reads(listener, monkeypatch):
    for step in range(1000):
        monkeypatch.setattr("numad_py.runtime.reporting._next_s", 0.0)
        progress(step)

    assert listener.recv(64) == b"0.0"


@pytest.mark.parametrize("step", ["three", None, 10**400], ids=["word", "none", "too far"])
def test_what_is_no_number_is_not_said_and_not_raised(listener, step):
    progress(step)

    with pytest.raises(BlockingIOError):
        listener.recv(64)


def test_an_array_whose_library_does_not_tell_its_number_is_not_said_and_not_raised(listener):
    class Deleted:
        def __float__(self):
            raise RuntimeError("Array has been deleted")

    progress(Deleted())

    with pytest.raises(BlockingIOError):
        listener.recv(64)


def test_without_a_daemon_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.setattr("numad_py.runtime.reporting._next_s", 0.0)
    monkeypatch.setenv("NUMAD_PROGRESS", str(tmp_path / "nobody"))

    progress(1)


@pytest.fixture
def clock(monkeypatch):
    """Let time be what the test says."""
    clock = SimpleNamespace(now_s=100.0, monotonic=lambda: clock.now_s)
    monkeypatch.setattr("numad_py.runtime.reporting.time", clock)
    return clock


def until_it_would_wait(do):
    with suppress(BlockingIOError):
        while True:
            do()


def test_a_word_that_the_full_queue_of_the_daemon_does_not_take_is_soon_followed_by_another(listener, clock):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flooding:
        flooding.connect(listener.getsockname())
        until_it_would_wait(lambda: flooding.send(b"0"))

        progress(1)
        until_it_would_wait(lambda: listener.recv(64))
    progress(2)
    clock.now_s += 0.01
    progress(3)

    assert listener.recv(64) == b"3.0"


def steps(clock, count, *, took_s, slack_s):
    for _ in range(count):
        with one_step():
            clock.now_s += took_s
        clock.now_s += slack_s


def test_a_step_says_at_its_end_how_many_there_were_and_the_slack_before_it(listener, clock):
    steps(clock, 3, took_s=0.5, slack_s=0.0625)

    words = [listener.recv(64) for _ in range(3)]

    assert words == [b"1 0.000000", b"2 0.062500", b"3 0.062500"]


def test_steps_that_follow_fast_are_all_counted_and_seldom_told(listener, clock):
    steps(clock, 100, took_s=0.003, slack_s=0.0001)
    steps(clock, 1, took_s=0.3, slack_s=0.0)

    words = [listener.recv(64).split()[0] for _ in range(3)]

    assert words == [b"1", b"82", b"101"]


def test_a_step_that_fails_is_no_step_and_its_error_is_the_jobs(listener):
    with pytest.raises(ZeroDivisionError), one_step():
        _ = 1 / 0

    with pytest.raises(BlockingIOError):
        listener.recv(64)
