# SPDX-License-Identifier: Apache-2.0

"""A file of results only grows, heals where a write was torn, and is never taken from somebody else's file."""

import pytest

from numad_py.profile import ProfileError
from numad_py.sim import results

LINE = b'{"point":"a","time":1}\n'


def known(path):
    with results.opened(path) as found:
        return found.by_point


def test_what_is_added_is_there_the_next_time(tmp_path):
    path = tmp_path / "results.jsonl"
    with results.opened(path) as found:
        found.add("a", {"time": 1})
        assert path.read_bytes() == LINE

    assert known(path) == {"a": {"point": "a", "time": 1}}


def test_without_a_file_results_are_known_until_the_end():
    with results.opened(None) as found:
        found.add("a", {"time": 1})

        assert found.by_point["a"]["time"] == 1
    assert known(None) == {}


@pytest.mark.parametrize("torn", [b"{", b'{"poi', b'{"point":"b","ti', LINE[:-1]])
def test_a_torn_last_line_is_cut_off_and_added_anew(tmp_path, torn):
    path = tmp_path / "results.jsonl"
    path.write_bytes(LINE + torn)

    with results.opened(path) as found:
        assert list(found.by_point) == ["a"]
        found.add("b", {"time": 2})

    assert path.read_bytes() == LINE + b'{"point":"b","time":2}\n'


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"notes\n", "line 1: is no result of a sweep: name another file"),
        (b"no end of line", "line 1: is no result of a sweep"),
        (LINE + b"\n" + LINE, "line 2: is no result of a sweep"),
        (LINE + b'{"point":"b",,}\n' + LINE, "line 2: is damaged: take the line out"),
    ],
)
def test_another_file_is_left_as_it_is(tmp_path, held, said):
    path = tmp_path / "file"
    path.write_bytes(held)

    with pytest.raises(ProfileError, match=said):
        known(path)

    assert path.read_bytes() == held


def test_two_sweeps_do_not_write_one_file(tmp_path):
    path = tmp_path / "results.jsonl"

    with results.opened(path), pytest.raises(ProfileError, match="another sweep writes it"):
        known(path)


def test_the_same_has_the_same_name_and_anything_else_another():
    name = results.name_of(source="x", settings={"a": 1, "b": 2})

    assert name == results.name_of(settings={"b": 2, "a": 1}, source="x")
    assert name != results.name_of(source="x", settings={"a": 1, "b": 3})


def test_files_are_hashed_one_after_the_other(tmp_path):
    for name, held in {"a": b"1", "b": b"2", "both": b"12"}.items():
        (tmp_path / name).write_bytes(held)

    assert results.sha256_of([tmp_path / "a", tmp_path / "b"]) == results.sha256_of([tmp_path / "both"])
