# SPDX-License-Identifier: Apache-2.0

"""Match patterns of cgroup paths, one component after the other, as the tree is walked down.

``*``, ``?`` and ``[abc]`` stand for characters of one component, ``**`` for any number of whole ones.
Of a path the top-most cgroup that a pattern matches is its match, and none below it.
"""

import re
from dataclasses import dataclass
from fnmatch import translate

_ANY = "**"


@dataclass(frozen=True, eq=False)
class Pattern:
    """One pattern and what it says of its matches; ``parts`` has None for ``**``."""

    text: str
    profile: str
    parts: tuple[re.Pattern[str] | None, ...]


States = tuple[tuple[Pattern, int], ...]
"""Patterns that may match further down, and how many of their parts are behind us."""


def compiled(text: str, profile: str) -> Pattern:
    """Read a pattern; a ValueError says what it lacks."""
    top, *parts = text.split("/")
    if top or not parts or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{text}: a pattern is a path from the mount on, such as /system.slice/*.service")
    if any(_ANY in part and part != _ANY for part in parts):
        raise ValueError(f"{text}: ** stands for whole components, as in /kubepods.slice/**/cri-*.scope")
    if parts[-1] == _ANY:  # all that is below, of which the top-most are the children
        parts[-1] = "*"
    return Pattern(
        text, profile, tuple(None if part == _ANY else re.compile(translate(part)) for part in parts)
    )


def below(states: States, name: str) -> tuple[States, list[Pattern]]:
    """Go down to the child of this name; give what may match further down, and what matches here."""
    after: dict[tuple[Pattern, int], None] = {}
    for pattern, at in states:
        while (part := pattern.parts[at]) is None:
            after[pattern, at] = None
            at += 1  # noqa: PLW2901 - ** may stand for nothing too
        if part.match(name):
            after[pattern, at + 1] = None
    matched = [pattern for pattern, at in after if at == len(pattern.parts)]
    if not matched:
        return tuple(after), matched
    return tuple(state for state in after if state[0] not in matched), matched
