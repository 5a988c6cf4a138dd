# SPDX-License-Identifier: Apache-2.0

"""The points of a sweep, as ``--set KEY=VALUES`` writes them."""

import itertools
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

from numad_py.profile import ProfileError, parse_yaml

MOST_POINTS: Final = 100_000
_NUMBER: Final = r"([-+]?[0-9]{1,12}(?:\.[0-9]{1,12})?)"
_RANGE: Final = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:/([0-9]{{1,6}}))?")
_NOTATION: Final = "values as 1,2,4, every whole number as 1..4, or five evenly apart as 0.1..0.5/5"


def points(sets: Sequence[str]) -> list[dict[str, Any]]:
    """Give the product of all ``KEY=VALUES``, the last key changing fastest; raise ProfileError for what is none."""
    grid: dict[str, list[Any]] = {}
    for text in sets:
        key, _, written = text.partition("=")
        if not (key and written):
            raise ProfileError(f"found {text!r}, needed is KEY=VALUES, with {_NOTATION}")
        if key in grid:
            raise ProfileError(f"found {key} twice: give all its values at once, as {key}=1,2")
        grid[key] = [value for item in written.split(",") for value in _values(item, key)]
        if len({*map(repr, grid[key])}) < len(grid[key]):
            raise ProfileError(f"{key}: found a value twice in {written!r}")
    if (count := math.prod(map(len, grid.values()))) > MOST_POINTS:
        raise ProfileError(f"found {count:,} points, allowed are {MOST_POINTS:,}")
    return [dict(zip(grid, combined, strict=True)) for combined in itertools.product(*grid.values())]


def _values(item: str, key: str) -> list[Any]:
    """Give one value, or those of a range; fractions keep 0.1 + 2 * 0.1 what people call it."""
    if not (found := _RANGE.fullmatch(item)):
        if ".." in item or not item:
            raise ProfileError(f"{key}: found {item!r}, needed are {_NOTATION}")
        return [parse_yaml(f"value: {item}", key).get("value")]
    low, high, whole = Fraction(found[1]), Fraction(found[2]), "." not in found[1] + found[2]
    count = int(found[3] or (high - low + 1 if whole else 0))
    if high <= low or not 1 < count <= MOST_POINTS:
        raise ProfileError(f"{key}: found {item!r}, needed are {_NOTATION}, upwards")
    step = (high - low) / (count - 1)
    return [_plain(low + number * step, whole=whole) for number in range(count)]


def _plain(value: Fraction, *, whole: bool) -> float | int:
    return int(value) if whole and value.denominator == 1 else float(value)
