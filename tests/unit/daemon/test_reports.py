# SPDX-License-Identifier: Apache-2.0

"""The daemon hears who says how far it came, by the kernel's word, and nothing else that is sent."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numad_py.daemon import reports

SAY = """
import os, sys
from numad_py.runtime import progress
progress(7)
print(os.getpid())
"""


class Heard(list):
    """What was heard so far."""

    def __call__(self, pid, word, time_s):
        self.append((pid, word))

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
