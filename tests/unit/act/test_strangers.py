# SPDX-License-Identifier: Apache-2.0

"""Whoever maps what is to be moved for others is found, in this kernel's own files."""

import mmap
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from numad_py.act.strangers import IN_TIME, strangers
from numad_py.kernel import maps, proc_stat
from numad_py.model import ProcessKey
from tests.builders import move, process
from tests.fake_root import FORBIDDEN, stat

PAGES = 16
LENGTH = PAGES * mmap.PAGESIZE
MAP_IT = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
print("mapped", flush=True)
"""
STAYS = "sys.stdin.read()"
ENDS_ITS_FIRST_THREAD = """
import ctypes, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def wait_until(done):
    until_s = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def key_of(pid):
    return ProcessKey(pid, proc_stat.read(pid).start_ticks)


def wish(mapped, *others, offset=0):
    """Wish to move a page of our mapping for us and for others."""
    view = np.frombuffer(mapped, np.uint8)
    start = np.array([view.ctypes.data + offset], np.uint64)
    us = key_of(os.getpid())
    whole = move(process(pages={0: 1}))
    return replace(whole, process=us, start=start, end=start + np.uint64(mmap.PAGESIZE), among=(us, *others))


@pytest.fixture
def root(tmp_path):
    """Give a root on which there are only we: not every process of the machine may be looked at here."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/version").touch()
    (tmp_path / f"proc/{os.getpid()}").symlink_to(f"/proc/{os.getpid()}")
    return tmp_path


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data set"
    path.write_bytes(b"1" * LENGTH)
    return path


@pytest.fixture
def file(path):
    """Map a file, as we are about to move it."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), LENGTH) as mapped:
        yield mapped


@pytest.fixture
def then():
    """Give what a process does that has mapped the file."""
    return STAYS


@pytest.fixture
def another(path, root, then):
    """Start a process that maps the same file; give its PID."""
    words = [sys.executable, "-c", MAP_IT + then, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "mapped\n"
        (root / f"proc/{running.pid}").symlink_to(f"/proc/{running.pid}")
        yield running.pid
        running.stdin.close()


@pytest.fixture
def child(root):
    """Fork a process that has all that we have; give its PID."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    (root / f"proc/{pid}").symlink_to(f"/proc/{pid}")
    yield pid
    os.close(writer)
    os.waitpid(pid, 0)


def test_a_file_that_only_the_job_maps_has_no_stranger(root, file):
    assert strangers([wish(file)], root) == [""]


def test_a_process_outside_the_job_that_maps_the_same_file_is_named(root, file, another):
    (said,) = strangers([wish(file)], root)

    assert said.startswith(f"process {another} (")
    assert said.endswith("which is not of the job, maps it too")


def test_a_process_of_the_job_that_maps_the_same_file_is_no_stranger(root, file, another):
    assert strangers([wish(file, key_of(another))], root) == [""]


def test_another_process_with_the_pid_of_one_of_the_job_is_a_stranger(root, file, another):
    other = ProcessKey(another, key_of(another).start_ticks - 1)

    assert str(another) in strangers([wish(file, other)], root)[0]


def test_who_was_forked_from_a_process_has_its_anonymous_memory(root, child):
    with mmap.mmap(-1, LENGTH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = b"1" * LENGTH
        alone, together = strangers([wish(memory), wish(memory, key_of(child))], root)

    assert str(child) in alone
    assert together == ""


def test_who_maps_the_file_does_not_matter_to_a_move_for_one_process_alone(root, file, another):
    assert strangers([replace(wish(file), among=()), wish(file)], root)[0] == ""


def test_a_process_that_ended_and_a_thread_of_the_kernels_map_nothing(root, file):
    (root / "proc/7").mkdir()
    (root / "proc/8").mkdir()
    (root / "proc/8/maps").touch()
    (root / "proc/8/stat").write_text(stat(8))

    assert strangers([wish(file)], root) == [""]


def test_what_a_thread_of_the_kernels_maps_is_not_asked(root, file):
    (root / "proc/8").mkdir()
    (root / "proc/8/maps").symlink_to(FORBIDDEN)
    (root / "proc/8/stat").write_text(stat(8, "kworker/0:1", flags=0x0420_8060))

    assert strangers([wish(file)], root) == [""]


def test_where_a_process_may_not_be_looked_at_it_is_said_rather_than_guessed(root, file):
    (root / "proc/9").mkdir()
    (root / "proc/9/maps").symlink_to(FORBIDDEN)
    (root / "proc/9/stat").write_text(stat(9))

    with pytest.raises(PermissionError):
        strangers([wish(file)], root)


@pytest.mark.parametrize("then", [ENDS_ITS_FIRST_THREAD])
def test_a_process_whose_first_thread_has_ended_is_a_stranger_like_any_other(root, file, another):
    wait_until(lambda: proc_stat.read(another).state == "Z")

    assert f"process {another} (" in strangers([wish(file)], root)[0]


def test_who_was_forked_and_whose_first_thread_has_ended_has_the_anonymous_memory_too(root, monkeypatch):
    """Its file says so by being empty, or by ESRCH."""
    read = maps.read

    def read_or_esrch(pid, root):
        if pid == 9:
            raise ProcessLookupError
        return read(pid, root)

    monkeypatch.setattr(maps, "read", read_or_esrch)
    (root / "proc/9/task").mkdir(parents=True)
    (root / "proc/9/stat").write_text(stat(9, num_threads=2))
    (root / f"proc/9/task/{os.getpid()}").symlink_to(f"/proc/{os.getpid()}")
    with mmap.mmap(-1, LENGTH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = b"1" * LENGTH

        assert "process 9 (" in strangers([wish(memory)], root)[0]


def test_a_process_of_which_every_thread_ends_meanwhile_maps_nothing(root, file):
    for directory in ("proc/9", "proc/9/task/9", "proc/9/task/11"):
        (root / directory).mkdir(parents=True, exist_ok=True)
        (root / directory / "maps").touch()
        (root / directory / "stat").write_text(stat(9, num_threads=2))
    (root / "proc/9/task/11/stat").write_text(stat(11))
    (root / "proc/9/task/11/maps").unlink()

    assert strangers([wish(file)], root) == [""]


def test_a_process_that_ended_before_it_is_moved_is_told_and_keeps_no_other_from_moving_for_all(root, file):
    gone = replace(wish(file), process=ProcessKey(7, 7))

    assert strangers([gone, wish(file)], root) == ["it ended", ""]


@pytest.mark.parametrize("reads", [0, 1], ids=["of who moves", "of others"])
def test_where_not_all_can_be_looked_at_in_time_that_is_said_of_what_is_shared(
    root, file, monkeypatch, reads
):
    alone, times = replace(wish(file), among=()), iter([0.0] * reads)
    monkeypatch.setattr(time, "monotonic", lambda: next(times, 1.0))

    assert strangers([alone, wish(file)], root, until_s=1.0) == ["", IN_TIME]
