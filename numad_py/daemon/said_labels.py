# SPDX-License-Identifier: Apache-2.0

"""Keep the labels that were said through the control socket.

Each counts for the cgroup that had this id in this boot of the machine, and for nothing else.
docs/decisions/0012-labels-said-are-kept.md says why they are not written as attributes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

from numad_py.daemon import state
from numad_py.kernel import cgroup
from numad_py.sense.opt_in import PER_USER, ROOT, Said

MINUTE_S: Final = 60.0
PER_MINUTE: Final = 100  # changes of a user's


@dataclass(frozen=True)
class KeptLabel:
    """Who labelled which cgroup how."""

    path: str
    cgroup_id: int
    uid: int
    profile: str


@dataclass(frozen=True)
class Kept:
    """What is kept over restarts."""

    boot_id: str
    labels: tuple[KeptLabel, ...]


class TooMany(ValueError):
    """A user has said as many labels as one may, or as often; one sentence says which."""


class SaidLabels:
    """The labels that were said, of cgroups that are still there; ``folder`` is where they are remembered."""

    def __init__(
        self,
        folder: Path,
        mount: Path,
        root: Path = Path("/"),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._since_s = now()
        self._changes = Counter[int]()  # since then, by user
        self._path = folder / "labels.json"
        self._mount = mount
        self._boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
        kept = state.load(self._path, Kept)
        self._labels = self._there(kept.labels if kept and kept.boot_id == self._boot_id else ())

    @property
    def by_cgroup(self) -> dict[int, Said]:
        """Give who said what, by cgroup id."""
        return {each.cgroup_id: Said(each.uid, each.profile) for each in self._labels}

    @property
    def all(self) -> tuple[KeptLabel, ...]:
        """Give every one."""
        return self._labels

    def say(self, label: KeptLabel) -> bool:
        """Keep a label, in the place of what was said of that cgroup, and say whether it is new.

        Raises TooMany, and OSError where it is not kept.
        """
        if label in self._labels:
            return False
        others = self._others(label.cgroup_id)
        if label.uid != ROOT and sum(each.uid == label.uid for each in others) >= PER_USER:
            raise TooMany(f"you have labelled {PER_USER} cgroups, and no user may label more")
        self._count(label.uid)
        self._keep((*others, label))
        return True

    def unsay(self, cgroup_id: int, uid: int) -> None:
        """Forget for this user what was said of a cgroup; raises TooMany, and OSError where that is not kept."""
        self._count(uid)
        self._keep(self._others(cgroup_id))

    def _count(self, uid: int) -> None:
        """Bound what each change costs: two writes that are waited for, and a line of the log."""
        now_s = self._now()
        if now_s >= self._since_s + MINUTE_S:
            self._since_s, self._changes = now_s, Counter()
        if uid != ROOT and self._changes[uid] >= PER_MINUTE:
            wait_s = ceil(self._since_s + MINUTE_S - now_s)
            raise TooMany(f"you have changed {PER_MINUTE} labels within a minute: try again in {wait_s} s")
        self._changes[uid] += 1

    def _others(self, cgroup_id: int) -> tuple[KeptLabel, ...]:
        return tuple(each for each in self._there(self._labels) if each.cgroup_id != cgroup_id)

    def _there(self, labels: Iterable[KeptLabel]) -> tuple[KeptLabel, ...]:
        return tuple(each for each in labels if self._is_there(each))

    def _is_there(self, label: KeptLabel) -> bool:
        try:
            return cgroup.cgroup_id(self._mount / label.path[1:]) == label.cgroup_id
        except OSError:
            return False

    def _keep(self, labels: tuple[KeptLabel, ...]) -> None:
        state.save(self._path, Kept(self._boot_id, labels))
        self._labels = labels
