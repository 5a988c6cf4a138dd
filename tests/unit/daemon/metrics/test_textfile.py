# SPDX-License-Identifier: Apache-2.0

"""The file is whole or not there, others may not read it, and a disk that is full stops nobody."""

import stat

import pytest
from structlog.testing import capture_logs

from numad_py.daemon.metrics.textfile import Textfile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.prom"


def test_the_file_is_replaced_and_its_group_may_read_it(path):
    textfile = Textfile(path)

    textfile.write(b"old 1\n")
    textfile.write(b"new 2\n")

    assert path.read_bytes() == b"new 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_a_link_that_was_put_in_its_place_is_not_followed(path):
    victim = path.with_name("passwd")
    victim.write_text("root\n")
    path.symlink_to(victim)

    Textfile(path).write(b"new 2\n")

    assert victim.read_text() == "root\n"
    assert (path.is_symlink(), path.read_bytes()) == (False, b"new 2\n")


def test_a_folder_that_is_not_there_is_told_once_and_tried_again(path):
    textfile = Textfile(path.parent / "later" / path.name)
    with capture_logs() as log:
        for _ in range(3):
            textfile.write(b"1\n")
    (path.parent / "later").mkdir()

    textfile.write(b"2\n")

    assert [line["event"] for line in log] == ["metrics not written"]
    assert (path.parent / "later" / path.name).read_bytes() == b"2\n"


def test_a_disk_that_is_full_leaves_the_old_file_and_no_other(path, monkeypatch):
    textfile = Textfile(path)
    textfile.write(b"old 1\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numad_py.daemon.metrics.textfile.os.fchmod", full)
    with capture_logs() as log:
        textfile.write(b"new 2\n")

    assert [line["why"] for line in log] == ["[Errno 28] No space left on device"]
    assert [each.read_bytes() for each in path.parent.iterdir()] == [b"old 1\n"]


def test_what_fails_again_after_it_went_well_is_told_again(path, monkeypatch):
    later = path.parent / "later"
    textfile = Textfile(later / path.name)

    with capture_logs() as log:
        textfile.write(b"1\n")
        later.mkdir()
        textfile.write(b"2\n")
        textfile.remove()
        later.rmdir()
        textfile.write(b"3\n")

    assert len(log) == 2


def test_a_file_that_is_gone_already_is_no_trouble(path):
    Textfile(path).remove()

    assert not path.exists()
