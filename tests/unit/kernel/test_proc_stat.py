# SPDX-License-Identifier: Apache-2.0

"""A stat file is read whatever its command is called."""

import os
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import proc_stat

TEXT = (
    b"4242 (cat) R 1 4242 4242 34816 4242 4194304 93 4 5 6 70 30 0 0 20 0 5 0 123456 8192000 220 "
    b"18446744073709551615 1 1 140736214216336 0 0 0 0 0 0 0 0 0 17 3 99 1 0 0 0 0 0 0 0 0 0 0 0\n"
)


def named(comm):
    return TEXT.replace(b"(cat)", b"(" + comm + b")")


def without(field):
    """Give the text with the field of that number, as proc_pid_stat(5) counts, no number."""
    fields = TEXT.split(b" ")
    return b" ".join([*fields[: field - 1], b"x", *fields[field:]])


def test_each_field_is_the_one_that_the_manual_numbers():
    assert proc_stat.parse(TEXT) == proc_stat.Stat(
        pid=4242,
        comm="cat",
        state="R",
        flags=4194304,
        minor_faults=93,
        major_faults=5,
        utime_ticks=70,
        stime_ticks=30,
        num_threads=5,
        start_ticks=123456,
        vsize_bytes=8192000,
        rss_pages=220,
        start_stack=140736214216336,
        cpu=3,
        rt_priority=99,
        policy=1,
    )


@pytest.mark.parametrize(
    ("comm", "read"),
    [
        (b"", ""),
        (b"a b", "a b"),
        (b"a) R 1 2 (b", "a) R 1 2 (b"),
        (b"((sd-pam))", "((sd-pam))"),
        (b"x)\n9 (y", "x)\n9 (y"),
        ("naïve".encode(), "naïve"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b" ) ", " ) "),
    ],
)
def test_a_command_may_hold_anything(comm, read):
    stat = proc_stat.parse(named(comm))

    assert stat.comm == read
    assert (stat.pid, stat.state, stat.policy) == (4242, "R", 1)


@given(st.binary(max_size=15))
def test_no_command_shifts_the_fields(comm):
    stat = proc_stat.parse(named(comm))

    assert stat.comm == comm.decode(errors="backslashreplace")
    assert [column.tolist() for column in proc_stat.cpu_times([named(comm)])] == [[4242], [3], [100]]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"4242",
        b"4242 (cat",
        b"4242 (cat) R 1",
        b"x (cat) R " + TEXT[13:],
        without(39),
        without(41),
    ],
)
def test_a_file_with_a_field_missing_or_no_number_is_refused(text):
    with pytest.raises(proc_stat.Malformed):
        proc_stat.parse(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"4242 (cat) R 1", without(14), without(39), TEXT.replace(b" 70 ", b" 99999999999999999999 ")],
)
def test_cpu_times_refuse_what_parse_refuses(text):
    with pytest.raises(proc_stat.Malformed):
        proc_stat.cpu_times([TEXT, text])


def test_cpu_times_are_a_row_a_thread():
    tid, cpu, ticks = proc_stat.cpu_times([TEXT, TEXT.replace(b"4242 (", b"4243 (")])

    assert (tid.tolist(), cpu.tolist(), ticks.tolist()) == ([4242, 4243], [3, 3], [100, 100])
    assert [len(column) for column in proc_stat.cpu_times([])] == [0, 0, 0]


def near_misses():
    parts = st.sampled_from([b"1", b" ", b"(", b") ", b"R", b"-1", b"99999999999999999999", b"\n"])
    return st.lists(parts, max_size=90).map(b"".join)


@given(
    st.binary(max_size=200)
    | near_misses()
    | st.builds(
        lambda at, byte: TEXT[:at] + byte + TEXT[at + 1 :], st.integers(0, len(TEXT)), st.binary(max_size=2)
    )
)
def test_no_bytes_raise_anything_but_malformed(text):
    for read in (proc_stat.parse, lambda stat: proc_stat.cpu_times([stat])):
        try:
            read(text)
        except proc_stat.Malformed:
            continue


def test_every_thread_of_a_process_is_read():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()

    tid, _, _ = proc_stat.cpu_times(proc_stat.read_threads(os.getpid()))
    done.set()
    thread.join()

    assert {os.getpid(), thread.native_id} <= set(tid.tolist())
    assert proc_stat.read(os.getpid()).pid == os.getpid()


def test_a_thread_that_vanished_is_left_out(tmp_path):
    (tmp_path / "proc/7/task/7").mkdir(parents=True)
    (tmp_path / "proc/7/task/7/stat").write_bytes(TEXT)
    (tmp_path / "proc/7/task/8").mkdir()

    assert proc_stat.read_threads(7, tmp_path) == [TEXT]


def test_only_the_threads_that_are_asked_for_are_read(tmp_path):
    for tid in (7, 8, 9):
        (tmp_path / f"proc/7/task/{tid}").mkdir(parents=True)
        (tmp_path / f"proc/7/task/{tid}/stat").write_bytes(b"%d %b" % (tid, TEXT[5:]))

    read = proc_stat.read_threads(7, tmp_path, [9, 8, 10])

    assert [stat[:2] for stat in read] == [b"9 ", b"8 "]


def test_a_thread_that_ends_between_opening_and_reading_is_left_out(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as child:
        stat = os.open(f"/proc/{child.pid}/stat", os.O_RDONLY)
        child.kill()
    (tmp_path / "proc/7/task/8").mkdir(parents=True)
    (tmp_path / "proc/7/task/8/stat").symlink_to(f"/proc/self/fd/{stat}")

    threads = proc_stat.read_threads(7, tmp_path)
    os.close(stat)

    assert threads == []


def test_a_process_that_is_gone_is_told_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        proc_stat.read(7, tmp_path)
    with pytest.raises(FileNotFoundError):
        proc_stat.read_threads(7, tmp_path)
