# SPDX-License-Identifier: Apache-2.0

"""Counters are read by name, whichever a kernel has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import vmstat


def test_each_line_is_a_counter():
    assert vmstat.parse(b"nr_free_pages 1350287\npgscan_direct 0\n") == {
        "nr_free_pages": 1350287,
        "pgscan_direct": 0,
    }
    assert vmstat.parse(b"") == {}


@pytest.mark.parametrize(
    "text",
    [b"x", b"\n", b"x 1 2\n", b"x -1\n", b" 1\n", b"x\t1\n", b"x 1_0\n", b"\xff 1\n", b"x " + b"9" * 5000],
)
def test_any_other_line_is_refused(text):
    with pytest.raises(vmstat.Malformed):
        vmstat.parse(b"a 1\n" + text)


@given(st.dictionaries(st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True), st.integers(0, 2**64 - 1)))
def test_what_the_kernel_prints_reads_the_same(counters):
    text = "".join(f"{name} {value}\n" for name, value in counters.items()).encode()

    assert vmstat.parse(text) == counters


@given(
    st.binary(max_size=100) | st.lists(st.sampled_from([b"a", b" ", b"1", b"\n"]), max_size=20).map(b"".join)
)
def test_no_bytes_raise_anything_but_malformed(text):
    try:
        counters = vmstat.parse(text)
    except vmstat.Malformed:
        return

    assert all(value >= 0 for value in counters.values())


def test_the_file_is_read_below_the_root_that_was_given(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_bytes(b"pswpout 3\n")

    assert vmstat.read(tmp_path) == {"pswpout": 3}


@pytest.mark.parametrize(
    ("name", "value"), [(b"nr_free_pages", 7), (b"pswpout", 12), (b"pswp", 0), (b"thp_migration_fail", 3)]
)
def test_one_counter_is_found_by_its_whole_name(name, value):
    text = b"nr_free_pages 7\npswpin 1\npswpout 12\nthp_migration_fail 3\n"

    assert vmstat.counter(text, name) == value


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 2**63), min_size=1))
def test_one_counter_is_the_same_as_among_all(counters):
    text = "".join(f"{name} {value}\n" for name, value in counters.items()).encode()

    assert {name: vmstat.counter(text, name.encode()) for name in counters} == vmstat.parse(text)


@pytest.mark.parametrize("text", [b"pswpout \n", b"pswpout -1\n", b"pswpout 1 2\n", b"pswpout x"])
def test_one_counter_that_is_no_number_is_malformed(text):
    with pytest.raises(vmstat.Malformed, match="vmstat: pswpout is"):
        vmstat.counter(text, b"pswpout")


def test_one_counter_may_be_the_last_of_a_text_without_its_newline():
    assert vmstat.counter(b"pswpout 12", b"pswpout") == 12
