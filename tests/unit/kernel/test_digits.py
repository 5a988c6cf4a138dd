# SPDX-License-Identifier: Apache-2.0

"""Numbers read as columns are the numbers that Python reads one by one."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import Malformed
from numad_py.kernel.digits import DECIMAL, HEX, Text

U64 = (
    st.integers(0, 2**64 - 1)
    | st.integers(0, 999)
    | st.sampled_from([10**k + d for k in range(20) for d in (-1, 0)])
)


def columns(words):
    """Write words with a blank behind each; give the text and where each begins."""
    text = b"".join(word + b" " for word in words)
    lengths = [len(word) + 1 for word in words]
    return Text(text), np.cumsum([0, *lengths[:-1]])


@pytest.mark.parametrize(
    ("base", "form"), [(DECIMAL, "d"), (HEX, "x"), (HEX, "08x"), (HEX, "016x"), (DECIMAL, "020d")]
)
@given(st.lists(U64, min_size=1))
def test_every_number_of_64_bits_is_read(base, form, numbers):
    text, at = columns([format(number, form).encode() for number in numbers])

    values, after = text.number(at, base, ends=b" ")

    assert values.tolist() == numbers
    assert (text.bytes[after] == ord(" ")).all()


@pytest.mark.parametrize(
    ("base", "word"),
    [
        (DECIMAL, b"18446744073709551616"),
        (DECIMAL, b"20000000000000000000"),
        (DECIMAL, b"29999999999999999999"),
        (DECIMAL, b"99999999999999999999"),
        (DECIMAL, b"100000000000000000000"),
        (DECIMAL, b"9" * 400),
        (HEX, b"10000000000000000"),
        (HEX, b"f" * 400),
    ],
)
def test_a_number_beyond_64_bits_is_refused_rather_than_wrapped(base, word):
    text, at = columns([b"7", word])

    with pytest.raises(Malformed, match="at byte 2"):
        text.number(at, base, ends=b" ")


@given(st.binary(max_size=30), st.sampled_from([(DECIMAL, rb"[0-9]*"), (HEX, rb"[0-9a-f]*")]))
def test_digits_end_where_the_first_other_byte_stands(text, base_and_digits):
    base, digits = base_and_digits
    expected = re.match(digits, text)[0][:24]

    values, lengths = Text(text).digits(np.array([0]), base)

    assert lengths.tolist() == [len(expected)]
    assert values.tolist() == [int(expected or b"0", base) % 2**64]


def test_a_number_above_the_limit_the_caller_set_is_refused():
    text, at = columns([b"100"])

    assert text.number(at, DECIMAL, ends=b" ", most=100)[0].tolist() == [100]
    with pytest.raises(Malformed):
        text.number(at, DECIMAL, ends=b" ", most=99)


def test_a_literal_longer_than_a_word_is_found_where_it_stands_in_full():
    text, at = columns([b"weighted interleave", b"weighted interl", b"weighted_interleave"])

    assert text.stands(at, b"weighted interleave").tolist() == [True, False, False]


def test_no_places_are_no_numbers():
    values, after = Text(b"").number(np.zeros(0, np.int64), DECIMAL, ends=b" ")

    assert len(values) == len(after) == 0
