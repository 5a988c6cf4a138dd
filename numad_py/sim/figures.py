# SPDX-License-Identifier: Apache-2.0

"""Name figures of a YAML document by dotted paths, change one, or scale some.

A part of a path is a key; in a list it is an item's number from 0, or the ``name`` that the item has, as in
``jobs.late.groups.0.memory.0.mb.1``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from numad_py.profile import ProfileError

WHOLE: Final = frozenset({"cpus", "processes", "memory_mb", "file_mb"})
SCALABLE: Final = WHOLE | {
    *("cores", "mb", "mb_per_s"),
    *("at_s", "until_s", "lives_s", "apart_s", "repeat_s", "investigated_s", "length_s"),
    *("memory_share", "parallel_accesses"),
}
"""Amounts: other numbers are sizes of pages, distances and node ids, of which a fifth more means nothing."""


def paths(node: Any, before: str = "") -> Iterator[str]:
    """Yield the path of every number."""
    if isinstance(node, (int, float)) and not isinstance(node, bool):
        yield before
    for part, child in _children(node):
        yield from paths(child, f"{before}.{part}" if before else part)


def closest(path: str, patterns: Iterable[str]) -> str | None:
    """Give the pattern of most parts that the path begins with; a part ``*`` is any."""
    fitting = (pattern for pattern in patterns if _fits(path.split("."), pattern.split(".")))
    return max(fitting, key=lambda pattern: (pattern.count("."), -pattern.count("*")), default=None)


def with_value(node: Any, path: str, value: Any, where: str) -> Any:
    """Give the document with another value at that path; raise ProfileError where there is no such place."""
    part, _, rest = path.partition(".")
    children = dict(_children(node))
    if part not in children and (rest or not isinstance(node, Mapping)):
        allowed = ", ".join(children) or "nothing: it is no mapping and no list"
        raise ProfileError(f"{where}: found no {part!r}, there is {allowed}")
    value = with_value(children[part], rest, value, f"{where}: {part}") if rest else value
    if isinstance(node, Mapping):
        return {**node, part: value}
    return [value if name == part else child for name, child in _children(node)]


def scaled(node: Any, chosen: frozenset[str], factor: float, before: str = "") -> Any:
    """Give the document with the amounts at the chosen paths multiplied, those of whole things rounded."""
    if isinstance(node, Mapping):
        items = ((part, scaled(child, chosen, factor, _path(before, part))) for part, child in node.items())
        return dict(items)
    if isinstance(node, list):
        return [scaled(child, chosen, factor, _path(before, part)) for part, child in _children(node)]
    key = next((part for part in reversed(before.split(".")) if not part.isdecimal()), "")
    if before not in chosen or key not in SCALABLE:
        return node
    return round(node * factor) if key in WHOLE else node * factor


def _path(before: str, part: str) -> str:
    return f"{before}.{part}" if before else part


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list):
        for number, child in enumerate(node):
            name = child.get("name") if isinstance(child, Mapping) else None
            yield (name if isinstance(name, str) else str(number)), child


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(pattern) <= len(parts) and all(
        mine in ("*", its) for mine, its in zip(pattern, parts, strict=False)
    )
