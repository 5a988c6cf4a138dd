# SPDX-License-Identifier: Apache-2.0

"""What is to survive a restart is whole, or not there."""

import os
import stat
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from numad_py.daemon import state


@dataclass(frozen=True)
class Kept:
    """A value to keep."""

    name: str
    figures: tuple[int, ...] = ()


def test_what_was_saved_is_loaded(tmp_path):
    kept = Kept("job", (1, 2))

    state.save(tmp_path / "kept.json", kept)

    assert state.load(tmp_path / "kept.json", Kept) == kept


def test_nothing_was_kept_where_there_is_no_file(tmp_path):
    assert state.load(tmp_path / "kept.json", Kept) is None


@pytest.mark.parametrize(
    "text", [b"", b'{"name": "jo', b'{"name": 3}', b"\xff\xfe", b'{"name": "\xff"}', b"[]"]
)
def test_what_is_not_such_a_value_is_told_and_put_aside(tmp_path, text):
    path = tmp_path / "kept.json"
    path.write_bytes(text)

    with capture_logs() as log:
        loaded = state.load(path, Kept)

    assert loaded is None
    assert (tmp_path / "kept.broken").read_bytes() == text
    assert not path.exists()
    assert [line["event"] for line in log] == ["state not read"]


def test_others_may_not_read_it(tmp_path):
    state.save(tmp_path / "kept.json", Kept("job"))

    assert stat.S_IMODE((tmp_path / "kept.json").stat().st_mode) == 0o600


def test_the_old_value_stays_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    state.save(path, Kept("old"))

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numad_py.daemon.state.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        state.save(path, Kept("new"))

    assert state.load(path, Kept) == Kept("old")
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps something for another")
def test_what_root_keeps_in_the_folder_of_another_is_theirs(tmp_path):
    os.chown(tmp_path, 4711, 4712)

    state.save(tmp_path / "kept.json", Kept("job"))

    status = (tmp_path / "kept.json").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (4711, 4712, 0o600)


def test_the_folder_is_the_one_that_systemd_made(monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")

    assert str(state.folder()) == "/var/lib/one"
