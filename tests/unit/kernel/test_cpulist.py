# SPDX-License-Identifier: Apache-2.0

"""Lists of CPUs and nodes are read and written as the kernel prints them, and nothing else is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import cpulist

IDS = st.frozensets(st.integers(0, cpulist.LIMIT - 1), max_size=60)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ()),
        ("\n", ()),
        ("0\n", (0,)),
        ("0-3,8\n", (0, 1, 2, 3, 8)),
        ("0,2,4", (0, 2, 4)),
        ("0-1023", tuple(range(1024))),
        ("5,3,3-4", (3, 4, 5)),
        ("65535", (65535,)),
    ],
)
def test_a_list_of_the_kernel_gives_its_ids(text, ids):
    assert cpulist.parse(text) == ids


@pytest.mark.parametrize(
    "text", ["x", ",", "0,", "-1", "1-", "3-1", "0--1", "0-10:2/4", "0 1", "0x1", "1_0", "+1", "٣", "0\n1"]
)
def test_any_other_text_is_refused_by_name(text):
    with pytest.raises(cpulist.Malformed) as refused:
        cpulist.parse(text)

    assert repr(text.strip()) in str(refused.value)


@pytest.mark.parametrize("text", ["0-99999999999", "65536", "0-65536", "1000000-1000001"])
def test_an_absurd_range_costs_no_memory(text):
    with pytest.raises(cpulist.Malformed):
        cpulist.parse(text)


@given(IDS)
def test_what_is_written_reads_the_same(ids):
    assert cpulist.parse(cpulist.render(ids)) == tuple(sorted(ids))


def test_runs_are_written_as_ranges_and_order_does_not_matter():
    assert cpulist.render([8, 1, 0, 2, 3, 3]) == "0-3,8"
    assert cpulist.render([]) == ""
    assert cpulist.render([7, 5]) == "5,7"


@given(st.text() | st.text("0123456789,-:/\n ", max_size=30))
def test_no_text_raises_anything_but_malformed(text):
    try:
        ids = cpulist.parse(text)
    except cpulist.Malformed:
        return

    assert all(0 <= number < cpulist.LIMIT for number in ids)
