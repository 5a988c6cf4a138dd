# SPDX-License-Identifier: Apache-2.0

"""The daemon hears who says how far it came, by the kernel's word, and nothing else that is sent."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from numad_py.daemon import activation, reports

SAY = """
import os, sys
from numad_py.runtime import progress
progress(7)
print(os.getpid())
"""


FLOOD = """
import contextlib, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as said:
    said.connect(sys.argv[1])
    while True:
        with contextlib.suppress(BlockingIOError):
            said.send(b"1")
"""


class Heard(list):
    """What was heard so far, when the last word was, and what CPU time hearing took until then."""

    def __call__(self, pid, word, time_s):
        self.append((pid, word))
        self.time_s, self.used_s = time_s, time.thread_time()

    def soon(self, count):
        """Wait for so many."""
        until_s = time.monotonic() + 30
        while len(self) < count and time.monotonic() < until_s:
            time.sleep(0.01)
        return list(self)


@pytest.fixture
def heard(tmp_path):
    """Listen at a folder."""
    heard = Heard()
    with reports.heard(tmp_path, heard):
        yield heard


def send(folder, word, *rights):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        said.connect(str(folder / "progress"))
        told = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, bytes(rights))] if rights else []
        said.sendmsg([word], told)


def test_a_process_is_heard_by_the_pid_that_the_kernel_tells(tmp_path, heard):
    env = os.environ | {"NUMAD_PROGRESS": str(tmp_path / "progress")}
    ran = subprocess.run([sys.executable, "-c", SAY], check=True, env=env, capture_output=True, text=True)

    assert heard.soon(1) == [(int(ran.stdout), b"7.0")]


def test_a_long_word_is_cut_and_descriptors_are_not_taken(tmp_path, heard):
    before = len(list(Path("/proc/self/fd").iterdir()))
    read, write = os.pipe()
    send(tmp_path, b"1" * 1000, *read.to_bytes(4, sys.byteorder))
    os.close(read)
    send(tmp_path, b"2")

    words = heard.soon(2)
    os.close(write)

    assert words == [(os.getpid(), b"1" * reports.WORD_BYTES), (os.getpid(), b"2")]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_anybody_may_send(tmp_path, heard):
    mode = (tmp_path / "progress").stat().st_mode & 0o777

    assert mode == 0o666


def test_a_daemon_after_one_that_was_killed_listens_again(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "progress"))
    heard = Heard()

    with reports.heard(tmp_path, heard):
        send(tmp_path, b"3")
        words = heard.soon(1)

    assert words == [(os.getpid(), b"3")]


def test_the_socket_that_systemd_opened_is_listened_at_and_none_of_our_own_is_made(tmp_path, monkeypatch):
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.bind(str(tmp_path / "progress"))
    monkeypatch.setattr(activation, "sockets", lambda name: [opened] if name == "progress" else [])
    heard, folder = Heard(), tmp_path / "ours"

    with reports.heard(folder, heard):
        send(tmp_path, b"4")
        words = heard.soon(1)

    assert words == [(os.getpid(), b"4")]
    assert not folder.exists()


def heard_at_once_s(path, monkeypatch):
    """Give how long it takes to hear as many words as the kernel keeps of one who sends while nobody listens."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.bind(str(path))
    monkeypatch.setattr(activation, "sockets", lambda _name: [opened])
    heard, sent = Heard(), 0
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as said,
        suppress(BlockingIOError),
    ):
        said.connect(str(path))
        while True:
            sent += said.send(b"5")

    began_s = time.monotonic()
    with reports.heard(path.parent, heard):
        assert len(heard.soon(sent)) == sent
    return heard.time_s - began_s


def test_words_that_wait_together_are_heard_together(tmp_path, monkeypatch):
    took_s = min(heard_at_once_s(tmp_path / f"{number}", monkeypatch) for number in range(5))

    assert took_s < 0.02  # of 10 words or more, after each of which it does not rest


def test_who_floods_it_for_seconds_is_heard_on_and_costs_little(tmp_path, heard):
    began_s = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", FLOOD, tmp_path / "progress"]) as flooding:
        heard.soon(reports.ROUND)
        time.sleep(2)
        flooding.kill()

    longest_round_s = 0.05
    assert len(heard) > 2 * reports.ROUND
    assert heard.used_s < (reports.AHEAD_S + heard.time_s - began_s) / reports.RESTS + longest_round_s
