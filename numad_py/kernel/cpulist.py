# SPDX-License-Identifier: Apache-2.0

"""The kernel's lists of CPUs and nodes, "0-3,8", and back."""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["LIMIT", "Malformed", "parse", "render"]

# Kernels are built with at most 8,192 CPUs and 1,024 nodes (NR_CPUS, NODES_SHIFT). Eight times that is room
# enough, and "0-99999999999" costs no memory.
LIMIT: Final = 1 << 16

# lib/vsprintf.c bitmap_list_string() prints single numbers and ranges. The form with a stride, "0-10:2/4", is
# only ever read by bitmap_parselist(), never printed, and so is refused.
_RANGE: Final = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def parse(text: str) -> tuple[int, ...]:
    """Give the ids, ascending and each once; none for an empty list.

    >>> parse("0-3,8")
    (0, 1, 2, 3, 8)

    Raises Malformed for anything else, and for an id of ``LIMIT`` or more.
    """
    text = text.strip()
    ids = {number for part in text.split(",") for number in _range(part, text)} if text else ()
    return tuple(sorted(ids))


def render(ids: Iterable[int]) -> str:
    """Write ids as the kernel does.

    >>> render((0, 1, 2, 3, 8))
    '0-3,8'
    """
    ordered = sorted(set(ids))
    after_gap = [b for a, b in pairwise(ordered) if b != a + 1]
    before_gap = [a for a, b in pairwise(ordered) if b != a + 1]
    runs = zip(ordered[:1] + after_gap, before_gap + ordered[-1:], strict=True)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _range(part: str, text: str) -> range:
    match = _RANGE.fullmatch(part)
    if not match:
        raise Malformed(f"not a list of CPUs or nodes such as 0-3,8: {text[:80]!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < LIMIT:
        raise Malformed(f"{part!r} does not ascend, or reaches {LIMIT}: {text[:80]!r}")
    return range(first, last + 1)
