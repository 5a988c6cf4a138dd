# SPDX-License-Identifier: Apache-2.0

"""Labels make jobs of subtrees: the nearest wins, an off above wins over all, and only root's count."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import Malformed, cgroup
from numad_py.kernel.cgroup import Directory

MOUNT = Path("/mount")
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


def tree(labels, owners=None):
    """Give a tree with these paths, parents first, from ``{path: label}``."""
    return [
        Directory(path, number, (owners or {}).get(path, 0), label)
        for number, (path, label) in enumerate(labels.items())
    ]


def jobs(labels, owners=None):
    """Give ``{path: (profile, directories)}``."""
    found = cgroup.assign(tree(labels, owners), MOUNT).jobs
    return {
        job.path: (job.profile, [f"/{directory.relative_to(MOUNT)}" for directory in job.directories])
        for job in found
    }


def test_an_unlabelled_tree_has_no_jobs():
    assert jobs({"/": None, "/a": None, "/a/b": None}) == {}


def test_a_label_makes_a_job_of_the_whole_subtree():
    labels = {"/": None, "/a": "default", "/a/b": None, "/a/b/c": None, "/ab": None}

    assert jobs(labels) == {"/a": ("default", ["/a", "/a/b", "/a/b/c"])}


def test_the_nearest_label_wins():
    labels = {"/": None, "/a": "default", "/a/b": "gentle", "/a/b/c": None, "/a/d": None}

    assert jobs(labels) == {"/a": ("default", ["/a", "/a/d"]), "/a/b": ("gentle", ["/a/b", "/a/b/c"])}


def test_an_off_holds_for_everything_below_it():
    labels = {
        "/": None,
        "/a": "default",
        "/a/b": "off",
        "/a/b/c": "gentle",
        "/a/b/c/d": None,
        "/e": "off",
        "/e/f": "gentle",
    }

    assert jobs(labels) == {"/a": ("default", ["/a"])}


def test_the_root_cannot_be_labelled():
    found = cgroup.assign(tree({"/": "default", "/a": None}), MOUNT)

    assert found.jobs == ()
    assert [(label.path, label.label) for label in found.ignored] == [("/", "default")]
    assert "root cgroup" in found.ignored[0].why


@pytest.mark.parametrize("label", ["default", "off"])
def test_only_the_labels_of_roots_own_directories_count(label):
    found = cgroup.assign(
        tree({"/": None, "/a": "gentle", "/a/b": label, "/a/b/c": None}, {"/a/b": 1000}), MOUNT
    )

    assert [len(job.directories) for job in found.jobs] == [3]
    assert [(label.path, label.cgroup_id) for label in found.ignored] == [("/a/b", 2)]
    assert "uid 1000" in found.ignored[0].why


@pytest.mark.parametrize(
    "label", ["", " ", "a b", "../x", "a/b", "\\xff", "-x", "x" * 65, "default\n", "näh"]
)
def test_a_label_that_is_no_profiles_name_is_ignored_and_told(label):
    found = cgroup.assign(tree({"/": None, "/a": label}), MOUNT)

    assert found.jobs == ()
    assert [ignored.label for ignored in found.ignored] == [label]


def test_an_absurdly_long_label_is_told_in_short():
    found = cgroup.assign(tree({"/": None, "/a": "x" * 60_000}), MOUNT)

    assert len(found.ignored[0].label) == 80


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


def test_a_tree_on_disk_gives_its_jobs(mount):
    label(mount / "a", b"default")
    label(mount / "a/c", b"off")
    (mount / "d/link").symlink_to(mount / "a")

    (job,) = cgroup.labels(mount).jobs

    assert job == cgroup.LabelledCgroup(
        "/a", (mount / "a").stat().st_ino, "default", (mount / "a", mount / "a/b")
    )
    assert job.cgroup_id == cgroup.cgroup_id(mount / "a")


def test_a_users_label_on_disk_is_ignored_and_told(mount):
    label(mount / "d", b"default")
    os.chown(mount / "d", 1000, 1000)

    found = cgroup.labels(mount)

    assert found.jobs == ()
    assert [ignored.path for ignored in found.ignored] == ["/d"]


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
        cgroup.labels(tmp_path / "file")


def test_a_tree_that_is_gone_has_no_labels(tmp_path):
    assert cgroup.labels(tmp_path / "gone") == cgroup.Labels((), ())


def test_cgroups_that_come_and_go_meanwhile_do_no_harm(mount):
    for number in range(50):
        (mount / f"d/{number}").mkdir()
    directories = cgroup._walk(mount)  # noqa: SLF001 - the only way to stop half-way

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
