# SPDX-License-Identifier: Apache-2.0

"""Read the numbers that stand at many places of one text, all at once.

Problem: numa_maps of a large process is tens of thousands of lines with several
numbers each, and one Python object per number costs more than the kernel took
to write the file.

Primitive: the eight bytes at any offset of the text are one little-endian word,
and numpy gathers the words at a whole array of offsets in one call. Within a
word, the leading digits are found and summed for all rows by a dozen integer
operations on the eight bytes side by side.

Application: ``Text.number`` reads a column of numbers, ``Text.stands`` compares a
column of places with a literal.

Units: offsets and lengths are bytes.
"""

from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import Malformed
from numad_py.topology import Addresses, Ints

DECIMAL: Final = 10
HEX: Final = 16
U64_MAX: Final = (1 << 64) - 1

_PADDING: Final = 32  # a number's three words may reach this far past the text, and NUL is no digit
_LANES: Final = ((8, 0x00FF_00FF_00FF_00FF), (16, 0x0000_FFFF_0000_FFFF), (32, 0x0000_0000_FFFF_FFFF))
_LONGEST: Final = {DECIMAL: 20, HEX: 16}  # digits of U64_MAX
_TEN_TO_19: Final = 10**19


class Text:
    """A text, its bytes as a column, and the word that begins at each byte."""

    def __init__(self, text: bytes) -> None:
        padded = text + bytes(_PADDING)
        self.length = len(text)
        self.bytes = np.frombuffer(padded, np.uint8)
        self.words: Addresses = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))

    def stands(self, at: Ints, literal: bytes) -> NDArray[np.bool_]:
        """Say at which of these places ``literal`` stands; its length is bounded by the padding."""
        hit = begins(self.words[at], literal[:8])
        for offset in range(8, len(literal), 8):
            hit &= begins(self.words[at + offset], literal[offset : offset + 8])
        return hit

    def is_one_of(self, at: Ints, these: bytes) -> NDArray[np.bool_]:
        """Say at which of these places one of ``these`` bytes stands."""
        found = self.bytes[at]
        any_of: NDArray[np.bool_] = np.logical_or.reduce([found == byte for byte in these])
        return any_of

    def number(self, at: Ints, base: int, *, ends: bytes, most: int = U64_MAX) -> tuple[Addresses, Ints]:
        """Give the numbers that begin there, and the offsets of the bytes that end them.

        Hexadecimal is lower case, as %lx prints it. Raises Malformed where no digit
        stands, the byte behind the number is not one of ``ends``, or it exceeds ``most``.
        """
        values, lengths = self.digits(at, base)
        after = at + lengths
        good = self.is_one_of(after, ends) & (lengths > 0) & (lengths <= _LONGEST[base]) & (values <= most)
        if base == DECIMAL and (lengths == _LONGEST[DECIMAL]).any():
            good &= (lengths < _LONGEST[DECIMAL]) | ~self._wrapped(at, values)
        if not good.all():
            self.refuse(at[~good], f"no number of base {base} that fits")
        return values, after

    def refuse(self, at: Ints, what: str) -> NoReturn:
        """Raise Malformed, quoting the text at the first of these places."""
        raise Malformed(f"{what} at byte {at[0]}: {self.bytes[at[0] : self.length][:40].tobytes()!r}")

    def digits(self, at: Ints, base: int) -> tuple[Addresses, Ints]:
        """Read up to 24 digits, or none, and say how many; the value is right if 64 bits hold it."""
        values, lengths = _leading(self.words[at], base)
        for read in (8, 16):
            longer = np.flatnonzero(lengths == read)
            if not len(longer):
                break
            more, count = _leading(self.words[at[longer] + read], base)
            values[longer] = values[longer] * np.uint64(base) ** count.astype(np.uint64) + more
            lengths[longer] += count
        return values, lengths

    def _wrapped(self, at: Ints, values: Addresses) -> NDArray[np.bool_]:
        """Say which numbers of twenty digits exceed 64 bits: those from 2e19, and those that came out small."""
        first = self.bytes[at]
        wrapped: NDArray[np.bool_] = (first > ord("1")) | (first == ord("1")) & (values < _TEN_TO_19)
        return wrapped


def begins(words: Addresses, literal: bytes) -> NDArray[np.bool_]:
    """Say which words begin with ``literal``, of at most eight bytes."""
    mask = np.uint64(U64_MAX >> 8 * (8 - len(literal)))
    same: NDArray[np.bool_] = (words & mask) == np.uint64(int.from_bytes(literal, "little"))
    return same


def _leading(words: Addresses, base: int) -> tuple[Addresses, Ints]:
    """Give the number that each word's leading digits make, and how many they are."""
    foreign = _not_decimal(words) if base == DECIMAL else _not_decimal(words) & _not_a_to_f(words)
    lowest = foreign & -foreign  # bit 8n+7, where byte n is the first that is no digit; 0 if there is none
    lengths = (np.bitwise_count(lowest - np.uint64(1)) >> 3).astype(np.int64)
    digits = (words & _each(0x0F)) + (words >> np.uint64(6) & _each(1)) * np.uint64(9)  # "a", 0x61, is 1 + 9
    sums = digits << (64 - 8 * lengths).astype(np.uint64)  # the last digit to the end, zeros in front
    for bits, kept in _LANES:  # neighbours join: first * base**(digits of the second) + second
        sums = (sums * np.uint64(base ** (bits // 8)) + (sums >> np.uint64(bits))) & np.uint64(kept)
    return sums, lengths


def _each(byte: int) -> np.uint64:
    return np.uint64(byte * 0x01_01_01_01_01_01_01_01)


def _above(words: Addresses, limit: int) -> Addresses:
    """Set the highest bit of each byte that exceeds ``limit``, which is under 128."""
    return ((words & _each(0x7F)) + _each(0x7F - limit) | words) & _each(0x80)


def _not_decimal(words: Addresses) -> Addresses:
    return _above(words ^ _each(0x30), 9)  # "0" to "9" become 0 to 9


def _not_a_to_f(words: Addresses) -> Addresses:
    letters = words ^ _each(0x60)  # "a" to "f" become 1 to 6
    return _above(letters, 6) | (_above(letters, 0) ^ _each(0x80))
