# SPDX-License-Identifier: Apache-2.0

"""A cgroup tree is read as it is, whatever comes and goes meanwhile, and no bytes in it are taken for what they are not."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import Malformed, cgroup

V1 = "31 23 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:7 - cgroup cgroup rw,cpu\n"


def mountinfo(root, at, options=""):
    return f"41 31 0:38 {root} {at} rw,relatime{options} - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (mountinfo("/", "/sys/fs/cgroup", " shared:4 master:1"), "/sys/fs/cgroup"),
        (V1 + mountinfo("/", "/sys/fs/cgroup/unified"), "/sys/fs/cgroup/unified"),
        (mountinfo("/docker/1", "/inner") + mountinfo("/", "/whole") + mountinfo("/", "/again"), "/whole"),
        (mountinfo("/docker/1", "/inner"), "/inner"),
        (mountinfo("/", r"/a\040b\011c\134d"), "/a b\tc\\d"),
        (mountinfo("/", r"/a\040-\040cgroup2"), "/a - cgroup2"),
        (V1, None),
        ("", None),
    ],
)
def test_the_mount_of_cgroup_v2_is_found(text, found):
    assert cgroup.mount_point(text.encode()) == (found and Path(found))


def test_the_mount_is_found_below_the_root_that_was_given(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(mountinfo("/", "/sys/fs/cgroup"))

    assert cgroup.read_mount_point(tmp_path) == tmp_path / "sys/fs/cgroup"

    (tmp_path / "proc/self/mountinfo").write_text(V1)
    assert cgroup.read_mount_point(tmp_path) is None


NUMA_STAT = b"anon N0=4096 N1=8192\nfile N0=1 N1=2\nkernel_stack N0=0 N1=0\ninactive_file N0=7 N1=7\n"


def test_what_a_job_is_charged_is_read_by_node():
    memory = cgroup.numa_stat(NUMA_STAT, (1, 0, 5))

    assert memory.anon_bytes.tolist() == [8192, 4096, 0]
    assert memory.file_bytes.tolist() == [2, 1, 0]


def test_a_thousand_nodes_of_charges_are_read():
    text = "".join(
        f"{name}{''.join(f' N{node}={node}' for node in range(1024))}\n" for name in ("anon", "file")
    )

    memory = cgroup.numa_stat(text.encode(), tuple(range(1024)))

    assert memory.anon_bytes.tolist() == memory.file_bytes.tolist() == list(range(1024))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"anon N0=1\n",
        b"total=1 N0=1\n",
        b"anon N0=x\nfile N0=1\n",
        b"anon N0=1\nfile N0=9999999999999999999\n",
    ],
)
def test_charges_of_another_form_are_refused(text):
    with pytest.raises(cgroup.Malformed):
        cgroup.numa_stat(text, (0,))


def test_processes_are_listed_once_and_strangers_are_left_out(tmp_path):
    (tmp_path / "cgroup.procs").write_text("12\n0\n7\n12\n")

    assert cgroup.procs(tmp_path) == (7, 12)


def test_a_cgroup_that_is_gone_has_no_processes(tmp_path):
    assert cgroup.procs(tmp_path / "gone") == ()


def test_an_error_that_is_not_a_vanished_cgroup_is_not_hidden(tmp_path):
    (tmp_path / "cgroup.procs").mkdir()

    with pytest.raises(IsADirectoryError):
        cgroup.procs(tmp_path)


@pytest.mark.parametrize("text", [b"x", b"-1", b"1 x", b"12345678901", b"1_0", b"+1"])
def test_processes_that_are_no_numbers_are_refused(text):
    with pytest.raises(cgroup.Malformed):
        cgroup.pids(text)


FUZZ = st.binary(max_size=100) | st.lists(
    st.sampled_from(
        [b"anon", b"file", b" N0=", b"9" * 18, b"\n", b"1 2 3:4 / /", b"\\777", b" - cgroup2 ", b" x"]
    ),
    max_size=15,
).map(b"".join)


@pytest.mark.parametrize(
    "parse", [cgroup.pids, cgroup.mount_point, lambda text: cgroup.numa_stat(text, (0, 1))]
)
@given(text=FUZZ)
def test_no_bytes_raise_anything_but_malformed(parse, text):
    try:
        parse(text)
    except cgroup.Malformed:
        return


@pytest.fixture
def mount(tmp_path):
    """Give a folder that takes labels as cgroup v2 does, and belongs to root."""
    try:
        os.setxattr(tmp_path, cgroup.LABEL, b"x")
    except OSError:
        pytest.skip(f"{tmp_path}: its file system has no user attributes")
    os.removexattr(tmp_path, cgroup.LABEL)
    if tmp_path.stat().st_uid:
        pytest.skip("only root can make a directory that root owns")
    for path in ("a/b", "a/c", "d"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "cgroup.procs").touch()
    return tmp_path


def label(directory, value):
    os.setxattr(directory, cgroup.LABEL, value)


def test_a_tree_is_walked_parents_first_with_owners_and_labels(mount):
    label(mount / "a", b"default")
    (mount / "d/link").symlink_to(mount / "a")
    os.chown(mount / "d", 1000, 1000)
    (mount / "a/c").chmod(0o775)

    found = list(cgroup.walk(mount))

    assert [(each.path, each.owner_uid, each.label, each.shared) for each in found] == [
        ("/", 0, None, False),
        ("/a", 0, "default", False),
        ("/a/b", 0, None, False),
        ("/a/c", 0, None, True),
        ("/d", 1000, None, False),
    ]
    assert found[1].cgroup_id == cgroup.cgroup_id(mount / "a")


def test_a_walk_may_begin_further_down_and_tells_of_each_before_it_looks(mount):
    told = []

    found = [each.path for each in cgroup.walk(mount, "/a", told.append)]

    assert found == told == ["/a", "/a/b", "/a/c"]


def test_a_label_is_written_over_and_taken_off(mount):
    cgroup.set_label(mount / "a", "default")
    cgroup.set_label(mount / "a", "off")
    written = cgroup.label_of(mount / "a")
    cgroup.set_label(mount / "a", None)
    cgroup.set_label(mount / "a", None)  # there is none to take off

    assert (written, cgroup.label_of(mount / "a")) == ("off", None)
    with pytest.raises(FileNotFoundError):
        cgroup.set_label(mount / "gone", None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/a/b.scope\n", "/a/b.scope"),
        ("9:name=systemd:/x\n3:cpuset:/y\n0::/\n", "/"),
        ("0::/a::b\n", "/a::b"),
    ],
)
def test_a_process_is_in_one_cgroup(tmp_path, text, path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(text)

    assert cgroup.path_of(7, tmp_path) == path


def test_a_process_without_a_cgroup_of_v2_is_refused(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text("3:cpuset:/y\n")

    with pytest.raises(Malformed):
        cgroup.path_of(7, tmp_path)


def test_a_label_is_read_or_there_is_none(mount):
    label(mount / "a", "naïve".encode())
    label(mount / "d", b"\xff")

    assert cgroup.label_of(mount / "a") == "naïve"
    assert cgroup.label_of(mount / "d") == "\\xff"
    assert cgroup.label_of(mount / "a/b") is None
    assert cgroup.label_of(mount / "gone") is None
    assert cgroup.label_of(Path("/proc/self")) is None  # a file system without such attributes


def test_an_error_that_is_not_a_missing_label_is_not_hidden(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        cgroup.label_of(tmp_path / "file/below")
    with pytest.raises(NotADirectoryError):
        list(cgroup.walk(tmp_path / "file"))


def test_a_tree_that_is_gone_holds_nothing(tmp_path):
    assert list(cgroup.walk(tmp_path / "gone")) == []


def test_cgroups_that_come_and_go_meanwhile_do_no_harm(mount):
    for number in range(50):
        (mount / f"d/{number}").mkdir()
    directories = cgroup.walk(mount)

    seen = [next(directories).path for _ in range(5)]
    for number in range(50):
        (mount / f"d/{number}").rmdir()
    seen += [directory.path for directory in directories]

    assert seen[:5] == ["/", "/a", "/a/b", "/a/c", "/d"]
    assert seen[5:] == []


def test_what_is_surely_not_in_huge_pages_is_the_rest():
    text = b"anon 700\nfile 50\nkernel 9\nanon_thp 400\nfile_thp 0\n"

    assert cgroup.small_pages_bytes(text) == 350


@pytest.mark.parametrize("missing", [b"anon", b"file", b"anon_thp"])
def test_a_memory_stat_without_what_is_asked_is_malformed(missing):
    lines = [b"anon 700", b"file 50", b"anon_thp 400"]
    text = b"".join(line + b"\n" for line in lines if not line.startswith(missing + b" "))

    with pytest.raises(Malformed, match=missing.decode()):
        cgroup.small_pages_bytes(text)
