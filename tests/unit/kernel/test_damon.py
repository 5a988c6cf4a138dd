# SPDX-License-Identifier: Apache-2.0

"""What DAMON is told stands in its files, and what it found is read from them; nothing else is taken for it."""

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import damon
from tests.fake_damon import ADMIN, FakeDamon

PACE = damon.Pace(sample_us=5000, aggr_us=100_000, fewest_regions=10, most_regions=200)


def target(pid, *ranges):
    return damon.Target(pid, np.array(ranges, np.uint64).reshape(-1, 2))


@pytest.fixture
def fake(tmp_path):
    return FakeDamon(tmp_path)


def test_each_process_becomes_a_target_with_its_ranges_and_a_pace_for_all(fake):
    damon.configure([target(100, (4096, 8192), (12288, 20480)), target(200, (0, 4096))], PACE, fake.root)

    assert fake.read("0/contexts/nr_contexts") == "1"
    assert fake.written(".")["operations"] == "fvaddr"
    assert fake.written("monitoring_attrs") == {
        "intervals/sample_us": "5000",
        "intervals/aggr_us": "100000",
        "nr_regions/min": "10",
        "nr_regions/max": "200",
    }
    assert fake.written("targets") == {
        "nr_targets": "2",
        "0/pid_target": "100",
        "0/regions/nr_regions": "2",
        "0/regions/0/start": "4096",
        "0/regions/0/end": "8192",
        "0/regions/1/start": "12288",
        "0/regions/1/end": "20480",
        "1/pid_target": "200",
        "1/regions/nr_regions": "1",
        "1/regions/0/start": "0",
        "1/regions/0/end": "4096",
    }


def test_each_target_has_a_scheme_that_changes_nothing_and_passes_what_was_accessed_of_that_target_alone(
    fake,
):
    damon.configure([target(100, (0, 4096)), target(200, (0, 4096))], PACE, fake.root)

    schemes = fake.written("schemes")
    assert schemes.pop("nr_schemes") == "2"
    assert schemes == {
        f"{index}/{name}": value
        for index in range(2)
        for name, value in {
            "action": "stat",
            "access_pattern/sz/min": "0",
            "access_pattern/sz/max": str(2**64 - 1),
            "access_pattern/nr_accesses/min": "1",
            "access_pattern/nr_accesses/max": str(2**32 - 1),
            "access_pattern/age/min": "0",
            "access_pattern/age/max": str(2**32 - 1),
            "filters/nr_filters": "1",
            "filters/0/type": "target",
            "filters/0/damon_target_idx": str(index),
            "filters/0/matching": "N",
        }.items()
    }


def test_a_kdamond_is_made_and_told_from_any_other_that_comes_after_it(fake):
    first = damon.claim(fake.root)
    assert damon.identity(fake.root) == first

    fake.replaced()

    assert damon.kdamonds(fake.root) == 1
    assert damon.identity(fake.root) not in (0, first)


def test_where_nothing_is_set_up_there_is_no_identity_no_thread_and_no_target(tmp_path):
    assert damon.identity(tmp_path) == 0
    assert damon.kdamond(tmp_path) is None
    assert damon.watched(tmp_path) == ()


def test_a_kernel_without_damon_is_told_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        damon.kdamonds(tmp_path)


@pytest.mark.parametrize(("pid", "running"), [(77, 77), (-1, None), (0, None)])
def test_the_kernels_thread_is_there_while_it_monitors(tmp_path, pid, running):
    assert damon.kdamond(FakeDamon(tmp_path, pid=pid).root) == running


def test_the_targets_are_read_back_as_they_were_written(fake):
    damon.configure([target(100, (0, 4096)), target(200, (0, 4096))], PACE, fake.root)

    assert damon.watched(fake.root) == (100, 200)


def test_the_kernels_own_users_are_named_where_they_are_on(tmp_path):
    fake = FakeDamon(tmp_path)
    for name, enabled in {
        "damon_reclaim": "Y",
        "damon_lru_sort": "N",
        "damon_stat": "Y",
        "other": "Y",
    }.items():
        fake.write(f"sys/module/{name}/parameters/enabled", enabled)

    assert damon.modules(tmp_path) == ("damon_reclaim", "damon_stat")


def test_regions_are_read_ascending_whatever_their_directories_are_called(fake):
    fake.regions(1, (8192, 12288, 3), (0, 4096, 0), (2**47, 2**64 - 4096, 20), first=9)

    start, end, counts = damon.tried_regions(1, fake.root)

    assert start.tolist() == [0, 8192, 2**47]
    assert end.tolist() == [4096, 12288, 2**64 - 4096]
    assert counts.tolist() == [0, 3, 20]
    assert [len(column) for column in damon.tried_regions(0, fake.root)] == [0, 0, 0]


def test_a_kdamond_that_runs_is_ended_before_it_is_removed(fake):
    damon.claim(fake.root)
    damon.command("on", fake.root)

    damon.release(fake.root)

    assert fake.read("0/state") == "off"
    assert fake.read("nr_kdamonds") == "0"


def test_a_kdamond_that_does_not_run_is_not_ended_again(tmp_path):
    fake = FakeDamon(tmp_path, pid=-1)
    fake.write(ADMIN / "0/state", "as it was")

    damon.release(tmp_path)

    assert fake.read("0/state") == "as it was"
    assert fake.read("nr_kdamonds") == "0"


def test_a_kdamond_that_ended_just_now_is_removed_all_the_same(fake):
    damon.claim(fake.root)
    fake.refuse("0/state")

    damon.release(fake.root)

    assert fake.read("nr_kdamonds") == "0"


def test_a_kdamond_that_cannot_be_ended_is_not_said_to_be(fake):
    damon.claim(fake.root)
    fake.refuse("0/state", by=fake.root)

    with pytest.raises(IsADirectoryError):
        damon.release(fake.root)

    assert fake.read("nr_kdamonds") == "1"


def answering(*answers):
    """Give a call that raises or returns these, one after the other."""
    left = list(answers)

    def attempt():
        answer = left.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    return attempt


BUSY, INVALID = OSError(errno.EBUSY, "busy"), OSError(errno.EINVAL, "invalid")


def test_one_who_is_turned_away_for_a_moment_asks_again():
    assert damon.patiently(answering(BUSY, BUSY, 7)) == 7


def test_one_who_is_turned_away_for_good_is_told():
    with pytest.raises(OSError, match="busy"):
        damon.patiently(answering(*[BUSY] * 100))


def test_any_other_refusal_is_final():
    with pytest.raises(OSError, match="invalid"):
        damon.patiently(answering(INVALID, 7))


@pytest.mark.parametrize(
    "rows",
    [
        [(b"4096", b"4096", b"0")],
        [(b"4096", b"0", b"0")],
        [(b"0", b"8192", b"0"), (b"4096", b"12288", b"0")],
        [(b"-4096", b"0", b"0")],
        [(b"0", b"18446744073709551616", b"0")],
        [(b"0", b"4096", b"-1")],
        [(b"0", b"4096", b"4294967296")],
        [(b"0", b"0x1000", b"0")],
        [(b"0", b"", b"0")],
    ],
)
def test_regions_that_no_kernel_has_are_refused(rows):
    with pytest.raises(damon.Malformed):
        damon.columns(rows)


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=20), st.randoms())
def test_what_the_kernel_prints_reads_the_same(edges, random):
    edges = sorted(edges[: len(edges) // 2 * 2])
    table = [
        (start, end, index) for index, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=True))
    ]
    shuffled = random.sample(table, len(table))

    start, end, counts = damon.columns([[b"%d\n" % value for value in row] for row in shuffled])

    assert list(zip(start.tolist(), end.tolist(), counts.tolist(), strict=True)) == table


texts = st.binary(max_size=24) | st.from_regex(rb"-?[0-9]{1,21}\n?", fullmatch=True)


@given(st.lists(st.tuples(texts, texts, texts), max_size=4))
def test_no_bytes_raise_anything_but_malformed(rows):
    try:
        start, end, counts = damon.columns(rows)
    except damon.Malformed:
        return

    assert len(start) == len(end) == len(counts) == len(rows)
    assert (start < end).all()
