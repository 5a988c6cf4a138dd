# SPDX-License-Identifier: Apache-2.0

"""Decide which labels count, and to which job each cgroup belongs.

Problem: root and users label cgroups, in four ways, above and below each other, and
nobody may have another's processes moved.
Primitive: the words said of one cgroup, strongest first: any ``off``, then root's, then users'.
Application: the tree is walked down once; a word is beaten by an ``off`` above it and, where a user
said it, by any of root's above it; else it takes the place of what held above.
docs/labels.md has all of it in one table.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from numad_py.kernel.cgroup import Directory
from numad_py.sense import patterns
from numad_py.sense.patterns import Pattern, States

OFF: Final = "off"
ROOT: Final = 0
NOBODY: Final = 65534  # kernel.overflowuid: whoever has no uid in our user namespace, and so not one person
ON_DIRECTORY: Final = "directory"
BY_SOCKET: Final = "socket"
PER_USER: Final = 256  # labels, so that no user fills our memory, a trace or the state's disk

_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Said:
    """A label that was said through the control socket, and by whom."""

    uid: int
    profile: str


@dataclass(frozen=True)
class Rules:
    """What decides about labels: the operator's patterns, what may be named, and what was said through the socket.

    ``profiles`` is None where any may be named. ``said`` is by cgroup id.
    """

    patterns: tuple[Pattern, ...] = ()
    profiles: frozenset[str] | None = None
    user_profiles: frozenset[str] = frozenset()
    said: Mapping[int, Said] = field(default_factory=dict)


@dataclass(frozen=True)
class Label:
    """One word about one cgroup. ``source`` is a pattern of the configuration, ``directory`` or ``socket``.

    ``why`` says why it does not count, if it does not.
    """

    path: str
    cgroup_id: int
    profile: str
    uid: int
    source: str
    why: str = ""

    @property
    def said_by(self) -> str:
        """Who said so, and where."""
        who = "root" if self.uid == ROOT else f"uid {self.uid}"
        places = {ON_DIRECTORY: f"{who}'s directory", BY_SOCKET: f"{who} through the socket"}
        return places.get(self.source, f"the configuration's {self.source}")


@dataclass(frozen=True)
class LabelledCgroup:
    """One job; ``directories`` are the cgroups that belong to it, its own first.

    Where ``uid`` is not None, a user labelled it, and only processes that are wholly that user's belong to it.
    """

    path: str
    cgroup_id: int
    profile: str
    directories: tuple[Path, ...]
    uid: int | None = None


@dataclass(frozen=True)
class Labels:
    """The jobs of a tree, in the order of their paths, and every word that was said, counting or not."""

    jobs: tuple[LabelledCgroup, ...] = ()
    words: tuple[Label, ...] = ()


def rules(
    *, deny: Iterable[str], labels: Mapping[str, str], profiles: Iterable[str], user_profiles: Iterable[str]
) -> Rules:
    """Compile what the operator says; a ValueError("key: sentence") says what is wrong with it."""
    return Rules(
        (*_compiled("deny", dict.fromkeys(deny, OFF)), *_compiled("labels", labels)),
        frozenset(profiles),
        frozenset(user_profiles),
    )


def assign(directories: Iterable[Directory], mount: Path, rules: Rules) -> Labels:
    """Give each directory to its job; ``directories`` come parents first."""
    words: list[Label] = []
    counting = Counter[int]()  # by user
    holds: dict[str, Label] = {}  # by path
    members: dict[str, list[Path]] = {}
    states: dict[str, States] = {"": tuple((pattern, 0) for pattern in rules.patterns)}
    for cgroup in directories:
        above, _, name = cgroup.path.rpartition("/")
        open_, matched = patterns.below(states.get(above, ()), name) if name else ((), [])
        if open_:
            states[cgroup.path] = open_
        holding = holds.get(above)
        for word in _words(cgroup, matched, rules):
            why = _refused(word, cgroup, rules) or _beaten(word, holding) or _too_many(word, counting)
            words.append(replace(word, why=why))
            holding = holding if why else word
        if holding:
            holds[cgroup.path] = holding
            members.setdefault(holding.path, []).append(mount / cgroup.path[1:])
    jobs = (holds[path] for path in sorted(members))
    return Labels(
        tuple(_job(label, members[label.path]) for label in jobs if label.profile != OFF), tuple(words)
    )


def apart(labels: Labels, job: LabelledCgroup) -> tuple[int, ...]:
    """Give the ids of the cgroups below a job with which another job begins, or what is off."""
    below = f"{job.path}/"
    return tuple(word.cgroup_id for word in labels.words if word.path.startswith(below) and not word.why)


def unnameable(profile: str, rules: Rules, *, by_user: bool) -> str:
    """Say why a label may not bear this name; nothing where it may."""
    if not _PROFILE.fullmatch(profile):
        return "not the name of a profile, nor off"
    if profile == OFF:
        return ""
    if rules.profiles is not None and profile not in rules.profiles:
        return f"the profile {profile} is not among those allowed"
    if by_user and profile not in rules.user_profiles:
        return f"of users the configuration's user_profiles allows {', '.join(sorted(rules.user_profiles)) or 'none'}"
    return ""


def refusal(uid: int, profile: str, owners: Iterable[frozenset[int]], rules: Rules) -> str:
    """Say why a user may not label a cgroup whose processes belong to ``owners``; nothing where they may.

    Root may. Others may where there are processes in it, and all of them are wholly theirs.
    """
    if why := unnameable(profile, rules, by_user=uid != ROOT):
        return why
    if uid == ROOT:
        return ""
    uids = frozenset[int]().union(*owners)
    if uid == NOBODY:
        return "who has no uid here may not label"
    if not uids:
        return "there is no process in it, and so none that is yours"
    strangers = sorted(uids - {uid})
    return f"a process in it belongs to uid {strangers[0]}, not to you alone" if strangers else ""


def _compiled(key: str, profile_of: Mapping[str, str]) -> list[Pattern]:
    try:
        return [patterns.compiled(text, profile) for text, profile in profile_of.items()]
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _words(cgroup: Directory, matched: list[Pattern], rules: Rules) -> list[Label]:
    """Give what is said of this very cgroup, strongest first; among equals the last that an operator would think of."""
    said: list[tuple[str, int, str]] = []
    if (by_socket := rules.said.get(cgroup.cgroup_id)) is not None:
        said.append((by_socket.profile, by_socket.uid, BY_SOCKET))
    if cgroup.label is not None:
        said.append((cgroup.label[:80], cgroup.owner_uid, ON_DIRECTORY))
    said += [(pattern.profile, ROOT, pattern.text) for pattern in matched]
    said.sort(key=lambda word: (word[0] != OFF, word[1] != ROOT))
    return [Label(cgroup.path, cgroup.cgroup_id, *word) for word in said]


def _refused(word: Label, cgroup: Directory, rules: Rules) -> str:
    """Say why a word does not count whatever is said elsewhere."""
    if word.path == "/":
        return "the root cgroup cannot be labelled"
    if word.uid == NOBODY and word.profile != OFF:
        return "its directory belongs to somebody who has no uid here"
    if word.source == ON_DIRECTORY and cgroup.shared and word.profile != OFF:
        return "others than the directory's owner may write to it, and so could have labelled it"
    return unnameable(word.profile, rules, by_user=word.uid != ROOT)


def _beaten(word: Label, holding: Label | None) -> str:
    """Say what is stronger than a word, of what is said above it or of the same cgroup; nothing where it holds."""
    if holding is None:
        return ""
    if holding.profile == OFF:
        return f"{holding.path} is off, as {holding.said_by} says"
    if holding.path == word.path:
        return f"{holding.said_by} says {holding.profile}"
    if holding.uid == ROOT and word.uid != ROOT and word.profile != OFF:
        return f"{holding.said_by} says {holding.profile} of {holding.path}, and root's word is stronger"
    return ""


def _too_many(word: Label, counting: Counter[int]) -> str:
    """Count a user's label that makes a job; say why not where there are as many as one user may have."""
    if word.uid == ROOT or word.profile == OFF:
        return ""
    counting[word.uid] += 1
    return f"of one user no more than {PER_USER} labels count" if counting[word.uid] > PER_USER else ""


def _job(label: Label, directories: list[Path]) -> LabelledCgroup:
    uid = None if label.uid == ROOT else label.uid
    return LabelledCgroup(label.path, label.cgroup_id, label.profile, tuple(directories), uid)
