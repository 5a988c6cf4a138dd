# SPDX-License-Identifier: Apache-2.0

"""Change what a scenario assumes: the figures that nobody has published or measured.

An assumption is the figures that one fitted mark covers. Each is made a fifth less and a fifth more, by itself and
together with all others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from numad_py.sim import figures
from numad_py.sim.script import Mark, scripted

FACTORS: Final = (0.8, 1.2)


@dataclass(frozen=True)
class Variant:
    """A scenario's mapping with other figures; ``assumption`` is the source that their mark names."""

    assumption: str
    factor: float
    mapping: Mapping[str, Any]


def variants(mapping: Mapping[str, Any], where: str) -> Iterator[Variant]:
    """Yield the scenario with each of its assumptions changed, and with all of them."""
    assumptions = _assumptions(mapping, where)
    if len(assumptions) > 1:
        assumptions["all of them"] = frozenset().union(*assumptions.values())
    for assumption, paths in assumptions.items():
        for factor in FACTORS:
            yield Variant(assumption, factor, figures.scaled(mapping, paths, factor))


def _assumptions(mapping: Mapping[str, Any], where: str) -> dict[str, frozenset[str]]:
    """Give the paths of fitted figures by the source of their mark; the closest mark speaks for a figure."""
    mark_of = {pattern: mark for mark in scripted(mapping, where).marks for pattern in mark.figures}
    found: dict[str, set[str]] = {}
    for path in figures.paths(mapping):
        mark = mark_of.get(figures.closest(path, mark_of) or "")
        if mark and mark.mark is Mark.FITTED:
            found.setdefault(mark.source, set()).add(path)
    return {source: frozenset(paths) for source, paths in found.items()}
