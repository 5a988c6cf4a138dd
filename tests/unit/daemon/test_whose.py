# SPDX-License-Identifier: Apache-2.0

"""A user sees what is in a directory of his, or wholly his; root sees all, nobody nothing."""

import os

import pytest

from numad_py.daemon import whose
from tests.builders import job
from tests.fake_root import FakeRoot

USER = 4711


@pytest.fixture
def fake(tmp_path):
    return FakeRoot(tmp_path)


def made(fake, *owners, path="job", owner=0):
    """Make a cgroup with a process for each of ``owners``: its four uids."""
    directory = fake.mount / path
    directory.mkdir(parents=True)
    pids = range(100, 100 + len(owners))
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    for pid, uids in zip(pids, owners, strict=True):
        status = fake.root / f"proc/{pid}/status"
        fake.write(f"proc/{pid}/status", "Uid:\t{}\t{}\t{}\t{}\n".format(*uids))
        os.chown(status, uids[1], -1)
    os.chown(directory, owner, -1)
    return job(cgroup_id=directory.stat().st_ino, path=f"/{path}")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@needs_root
@pytest.mark.parametrize(
    ("owners", "owner", "sees"),
    [
        ([(USER,) * 4], 0, True),
        ([(USER,) * 4, (USER,) * 4], 0, True),
        ([], 0, False),
        ([(0,) * 4], 0, False),
        ([(USER,) * 4, (USER + 1,) * 4], 0, False),
        ([(USER, 0, 0, 0)], 0, False),  # a setuid program of his
        ([(USER, USER, 0, USER)], 0, False),
        ([(USER, USER, USER, 0)], 0, False),
        ([], USER, True),
        ([(0,) * 4], USER, True),
        ([(USER,) * 4], USER + 1, True),
    ],
)
def test_a_user_sees_a_job_that_is_wholly_his_or_in_his_directory(fake, owners, owner, sees):
    labelled = made(fake, *owners, owner=owner)

    assert whose.may_see(USER, labelled, fake.mount, fake.root) == sees
    assert whose.may_see(0, labelled, fake.mount, fake.root)


@needs_root
def test_processes_below_count_too(fake):
    labelled = made(fake, (USER,) * 4)
    made(fake, (USER + 1,) * 4, path="job/below")

    assert not whose.may_see(USER, labelled, fake.mount, fake.root)


@needs_root
def test_whoever_has_no_uid_here_sees_nothing(fake):
    labelled = made(fake, (whose.NOBODY,) * 4, owner=whose.NOBODY)

    assert not whose.may_see(whose.NOBODY, labelled, fake.mount, fake.root)


@needs_root
def test_another_cgroup_of_that_path_is_another_job(fake):
    labelled = made(fake, (USER,) * 4, owner=USER)
    gone = job(cgroup_id=labelled.cgroup_id + 1, path="/job")

    assert not whose.may_see(USER, gone, fake.mount, fake.root)
    assert not whose.may_see(USER, job(path="/never"), fake.mount, fake.root)


@needs_root
def test_a_process_that_ended_meanwhile_is_nobodys(fake):
    labelled = made(fake, (USER,) * 4, (0,) * 4)
    fake.end(101)

    assert whose.may_see(USER, labelled, fake.mount, fake.root)


@needs_root
def test_what_cannot_be_read_is_not_taken_to_be_theirs(fake):
    labelled = made(fake, (USER,) * 4)
    (fake.mount / "job/cgroup.procs").write_text("not a number\n")

    assert not whose.may_see(USER, labelled, fake.mount, fake.root)


def test_what_cannot_be_listed_is_told(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        list(whose.pids(tmp_path / "file"))
