# SPDX-License-Identifier: Apache-2.0

"""Of a status file the four lines that matter are read, wherever they stand."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import proc_status

TEXT = (
    b"Name:\ta\\nUid:\t7\n"
    b"Umask:\t0022\n"
    b"State:\tS (sleeping)\n"
    b"Pid:\t4242\n"
    b"Uid:\t1000\t1001\t1002\t1003\n"
    b"Gid:\t100\t100\t100\t100\n"
    b"VmRSS:\t    2000 kB\n"
    b"RssAnon:\t     156 kB\n"
    b"RssFile:\t    1844 kB\n"
    b"Cpus_allowed:\tff\n"
    b"Cpus_allowed_list:\t0-3,8\n"
    b"Mems_allowed:\t00000000,00000003\n"
    b"Mems_allowed_list:\t0-1\n"
    b"voluntary_ctxt_switches:\t1\n"
)


def test_the_lines_that_matter_are_read():
    assert proc_status.parse(TEXT) == proc_status.Status(
        nodes_allowed=(0, 1), cpus_allowed=(0, 1, 2, 3, 8), rss_anon_bytes=156 << 10, uid=1001
    )


def test_a_kernel_thread_has_no_anonymous_memory():
    assert proc_status.parse(TEXT.replace(b"RssAnon:\t     156 kB\n", b"")).rss_anon_bytes == 0


def test_a_name_cannot_pose_as_another_line():
    assert proc_status.parse(TEXT.replace(b"a\\nUid", b"Uid:\t0\t0\t0\t0")).uid == 1001


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\nUid:", b"\nXid:"),
        (b"\nCpus_allowed_list:", b"\nXpus_allowed_list:"),
        (b"\nMems_allowed_list:", b"\nXems_allowed_list:"),
        (b"list:\t0-1", b"list:\t1-0"),
        (b"list:\t0-1", b"list:\t0-99999999"),
        (b"1001", b"x"),
        (b"156 kB", b"many kB"),
        (b"156 kB", b"9999999999999999 kB"),
    ],
)
def test_a_line_missing_or_of_another_form_is_refused(old, new):
    with pytest.raises(proc_status.Malformed):
        proc_status.parse(TEXT.replace(old, new))


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda at, junk: TEXT[:at] + junk + TEXT[at:], st.integers(0, len(TEXT)), st.binary(max_size=3)
    )
)
def test_no_bytes_raise_anything_but_malformed(text):
    try:
        status = proc_status.parse(text)
    except proc_status.Malformed:
        return

    assert status.rss_anon_bytes >= 0


def test_our_own_status_says_what_the_system_calls_say():
    status = proc_status.read(os.getpid())

    assert set(status.cpus_allowed) == os.sched_getaffinity(0)
    assert status.uid == os.geteuid()
    assert status.rss_anon_bytes > 0


def owned(tmp_path, uids, file_owner):
    """Write a status file of that owner."""
    path = tmp_path / "proc/7/status"
    path.parent.mkdir(parents=True)
    path.write_bytes(TEXT.replace(b"1000\t1001\t1002\t1003", uids))
    try:
        os.chown(path, file_owner, file_owner)
    except PermissionError:
        pytest.skip("only root can give a file away")
    return tmp_path


def test_whose_a_process_is_are_all_its_uids_and_the_owner_of_its_files(tmp_path):
    root = owned(tmp_path, b"1000\t1001\t1002\t1003", 1004)

    assert proc_status.owners(7, root) == {1000, 1001, 1002, 1003, 1004}


def test_a_process_that_may_not_be_dumped_is_roots_too(tmp_path):
    root = owned(tmp_path, b"1000\t1000\t1000\t1000", 0)

    assert proc_status.owners(7, root) == {0, 1000}


def test_a_process_of_which_no_uids_are_told_is_refused(tmp_path):
    root = owned(tmp_path, b"1000\t1000", 0)

    with pytest.raises(proc_status.Malformed):
        proc_status.owners(7, root)


def test_we_are_ours():
    assert os.geteuid() in proc_status.owners(os.getpid())
