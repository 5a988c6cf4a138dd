# SPDX-License-Identifier: Apache-2.0

"""Threads whose affinity is not ours to change are told from the others."""

import os

import pytest

from numad_py.kernel import Malformed, affinity, proc_stat
from tests.fake_root import FORBIDDEN, stat


def thread(*, flags=0, policy=0):
    """Give what is told of one thread."""
    words = stat(7).split()
    words[8], words[40] = str(flags), str(policy)
    return proc_stat.parse(" ".join(words).encode())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({}, ""),
        ({"flags": 0x0040_0040}, ""),  # PF_RANDOMIZE, and forked without exec
        ({"policy": 3}, ""),  # SCHED_BATCH
        ({"policy": 5}, ""),  # SCHED_IDLE
        ({"flags": 0x0020_8040}, "kernel-thread"),
        ({"flags": 0x0400_0050}, "no-setaffinity"),
        ({"policy": 1}, "real-time"),
        ({"policy": 2}, "real-time"),
        ({"policy": 6}, "deadline"),
    ],
)
def test_some_threads_are_nobodys_to_move(words, why):
    assert affinity.why_fixed(thread(**words)) == why


def test_this_very_thread_may_be_moved():
    us = proc_stat.read(os.getpid())

    assert affinity.why_fixed(us) == ""


@pytest.mark.parametrize(
    ("text", "loaded"), [("disabled\n", False), ("enabled\n", True), ("enabling\n", True), (None, False)]
)
def test_a_sched_ext_scheduler_is_told(tmp_path, text, loaded):
    if text is not None:
        (tmp_path / "sys/kernel/sched_ext").mkdir(parents=True)
        (tmp_path / "sys/kernel/sched_ext/state").write_text(text)

    assert affinity.scheduler_is_loaded(tmp_path) == loaded


def test_the_threads_of_a_cgroup_are_its_own(tmp_path):
    (tmp_path / "cgroup.threads").write_text("9\n7\n0\n")

    assert affinity.threads_in(tmp_path) == (7, 9)
    assert affinity.threads_in(tmp_path / "gone") == ()


def test_what_is_no_list_of_threads_is_refused(tmp_path):
    (tmp_path / "cgroup.threads").write_text("all of them\n")

    with pytest.raises(Malformed):
        affinity.threads_in(tmp_path)


def test_a_cgroup_that_may_not_be_read_is_told(tmp_path):
    (tmp_path / "cgroup.threads").symlink_to(FORBIDDEN)

    with pytest.raises(PermissionError):
        affinity.threads_in(tmp_path)
