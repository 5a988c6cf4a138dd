# SPDX-License-Identifier: Apache-2.0

"""Draw the figures of held scenarios, so that nobody can tune a policy on them.

A number is ``{from: A, to: B}``, and ``{from: A, to: B, name: N}`` where it stands elsewhere, too, as ``{same: N}``.
What is drawn depends on the seed, the scenario and the number's place alone: the same seed gives the same figures.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

from numad_py.profile import ProfileError, load_yaml
from numad_py.sim import script

_RANGES: Final = ({"from", "to"}, {"from", "to", "name"})
_SAME: Final = {"same"}


def read(path: Path, seed: str) -> script.Scenario:
    """Draw a held scenario; raise ProfileError, which says what is wrong and where."""
    return script.scripted(document(path, seed), str(path))


def document(path: Path, seed: str) -> dict[str, Any]:
    """Draw the mapping of a held scenario; raise ProfileError where it is none, or a range is wrong."""
    mapping = load_yaml(path)
    if mapping.get("split") != "held":
        raise ProfileError(f"{path}: split: is not held: play it with numad-py simulate --scenario")
    named: dict[str, Any] = {}
    drawn = _drawn(mapping, f"{seed}/{path.stem}", str(path), named)
    return dict(_repeated(drawn, str(path), named))


def _drawn(node: Any, place: str, where: str, named: dict[str, Any]) -> Any:
    if isinstance(node, dict) and set(node) in _RANGES:
        value = _number(node["from"], node["to"], place, where)
        if "name" in node:
            named[str(node["name"])] = value
        return value
    if isinstance(node, dict):
        return {key: _drawn(child, f"{place}.{key}", f"{where}: {key}", named) for key, child in node.items()}
    if isinstance(node, list):
        return [
            _drawn(child, f"{place}.{n}", f"{where}: item {n + 1}", named) for n, child in enumerate(node)
        ]
    return node


def _repeated(node: Any, where: str, named: dict[str, Any]) -> Any:
    if isinstance(node, dict) and set(node) == _SAME:
        if node["same"] not in named:
            raise ProfileError(
                f"{where}: found same: {node['same']}, drawn are {', '.join(named) or 'none by name'}"
            )
        return named[node["same"]]
    if isinstance(node, dict):
        return {key: _repeated(child, f"{where}: {key}", named) for key, child in node.items()}
    if isinstance(node, list):
        return [_repeated(child, f"{where}: item {n}", named) for n, child in enumerate(node, 1)]
    return node


def _number(low: Any, high: Any, place: str, where: str) -> float | int:
    """Give a number of the range, ends included; a whole one where both ends are."""
    if not all(type(end) in (int, float) for end in (low, high)) or not low < high:
        raise ProfileError(f"{where}: found from: {low!r}, to: {high!r}, needed are two numbers, upwards")
    share = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8]) / 2**64
    if isinstance(low, int) and isinstance(high, int):
        return low + int(share * (high - low + 1))
    return float(low + share * (high - low))
