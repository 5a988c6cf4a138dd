# SPDX-License-Identifier: Apache-2.0

"""Bytes that are nearly right: kept inputs, cut, doubled, joined, flipped, and with figures and words that are at the edge."""

import re

EDGES = (
    b"-1", b"0", b"1e999", b"18446744073709551616", b"9" * 400, b"null", b"true", b'""', b"[]", b"{}", b"NaN", b"\\ud800",
    b"\xff\xfe", b"\0", b"\n", b": ", b"- ", b"&a *a", b"!!python/object:os.system", b"io.numad.Control.Status", b"..", b"/",
)  # fmt: skip
FIGURE = re.compile(rb"-?[0-9]+(\.[0-9]+)?")


def mutated(data, others, dice):
    """Change some bytes a few times; ``others`` are inputs to take parts of, ``dice`` is a random.Random."""
    for _ in range(dice.randint(1, 5)):
        data = dice.choice(WAYS)(data, others, dice)
    return data[: 1 << 16]


def _flipped(data, _others, dice):
    at = dice.randrange(len(data) + 1)
    return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]


def _cut(data, _others, dice):
    low, high = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    return data[:low] + data[high:]


def _doubled(data, _others, dice):
    low, high = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    return data[:high] + data[low:high] * dice.choice((1, 2, 50)) + data[high:]


def _joined(data, others, dice):
    other = dice.choice(others)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def _edged(data, _others, dice):
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(EDGES) + data[at:]


def _refigured(data, _others, dice):
    figures = list(FIGURE.finditer(data))
    if not figures:
        return data
    found = dice.choice(figures)
    return data[: found.start()] + dice.choice(EDGES) + data[found.end() :]


WAYS = (_flipped, _cut, _doubled, _joined, _edged, _refigured)
