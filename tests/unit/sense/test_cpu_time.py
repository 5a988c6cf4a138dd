# SPDX-License-Identifier: Apache-2.0

"""CPU time is told by thread, from one look to the next, and never of somebody else."""

import os

import pytest

from numad_py.model import ProcessKey
from numad_py.sense.cpu_time import CpuTime
from tests.fake_root import FakeRoot

KEY = ProcessKey(100, 7)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def fake(tmp_path):
    return FakeRoot(tmp_path)


def looked(cpu_time, fake, key=KEY, **ticks):
    """Take one look at threads given as t100=(CPU, ticks); give CPU and ticks used by TID."""
    fake.process(key.pid, ticks={int(tid[1:]): used for tid, used in ticks.items()})
    threads = cpu_time.read(key, sum(used for _, used in ticks.values()))
    used = (threads.cpu_s * TICKS_PER_S).round().astype(int).tolist()
    return dict(zip(threads.tid.tolist(), zip(threads.cpu.tolist(), used, strict=True), strict=True))


def test_a_process_seen_for_the_first_time_has_used_nothing_yet(fake):
    assert looked(CpuTime(fake.root), fake, t100=(0, 5000)) == {}


def test_a_thread_used_what_its_counter_grew_and_an_idle_one_is_left_out(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50), t101=(1, 70))

    assert looked(cpu_time, fake, t100=(3, 75), t101=(1, 70)) == {100: (3, 25)}


def test_a_new_thread_used_all_that_it_has(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50))

    assert looked(cpu_time, fake, t100=(0, 51), t99=(2, 8)) == {99: (2, 8), 100: (0, 1)}


def test_a_thread_that_ended_is_forgotten(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50), t101=(1, 70))

    assert looked(cpu_time, fake, t100=(0, 60)) == {100: (0, 10)}
    assert looked(cpu_time, fake, t100=(0, 60), t101=(1, 3)) == {101: (1, 3)}


def test_a_thread_whose_id_was_used_again_has_not_run_backwards(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50), t101=(1, 70))

    assert looked(cpu_time, fake, t100=(0, 50), t101=(1, 2)) == {}


def test_another_process_with_the_same_pid_is_seen_for_the_first_time(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50))

    assert looked(cpu_time, fake, ProcessKey(100, 8), t100=(0, 90)) == {}


def test_a_process_that_is_not_kept_is_forgotten(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50))

    cpu_time.keep(set())

    assert looked(cpu_time, fake, t100=(0, 90)) == {}


def test_a_process_that_is_to_be_forgotten_is_seen_for_the_first_time_again(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50))

    cpu_time.forget(KEY)
    cpu_time.forget(KEY)

    assert looked(cpu_time, fake, t100=(0, 90)) == {}
    assert looked(cpu_time, fake, t100=(0, 95)) == {100: (0, 5)}


def test_a_process_whose_sum_stands_still_did_not_run(fake):
    cpu_time = CpuTime(fake.root)
    first = cpu_time.ran(KEY, 120)
    looked(cpu_time, fake, t100=(0, 50), t101=(1, 70))

    assert (first, cpu_time.ran(KEY, 120), cpu_time.ran(KEY, 121)) == (True, False, True)


def test_while_those_that_ran_before_explain_the_sum_no_other_thread_is_read(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50), t101=(1, 70))
    looked(cpu_time, fake, t100=(0, 150), t101=(1, 70))
    (fake.process(100, ticks={100: (0, 250), 101: (1, 75)}) / "task/101/stat").write_text("not looked at")

    threads = cpu_time.read(KEY, 325)

    assert threads.tid.tolist() == [100]


def test_what_those_that_ran_before_do_not_explain_is_looked_for_and_nothing_is_lost(fake):
    cpu_time = CpuTime(fake.root)
    looked(cpu_time, fake, t100=(0, 50), t101=(1, 70))
    looked(cpu_time, fake, t100=(0, 150), t101=(1, 70))
    looked(cpu_time, fake, t100=(0, 250), t101=(1, 75))  # too little to look for

    assert looked(cpu_time, fake, t100=(0, 260), t101=(1, 170)) == {100: (0, 10), 101: (1, 100)}


def test_a_process_without_threads_left_has_used_nothing(fake):
    cpu_time = CpuTime(fake.root)
    (fake.process(100) / "task/100/stat").unlink()

    threads = [cpu_time.read(KEY, 0), cpu_time.read(KEY, 0)]

    assert [len(each.tid) for each in threads] == [0, 0]
