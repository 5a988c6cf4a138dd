# SPDX-License-Identifier: Apache-2.0

"""Keep the labels that were said through the control socket.

Each counts for the cgroup that had this id in this boot of the machine, and for nothing else.
docs/decisions/0012-labels-said-are-kept.md says why they are not written as attributes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from numad_py.daemon import state
from numad_py.kernel import cgroup
from numad_py.sense.opt_in import PER_USER, ROOT, Said


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
    """A user has said as many labels as one may."""

    def __init__(self) -> None:
        super().__init__(f"you have labelled {PER_USER} cgroups, and no user may label more")


class SaidLabels:
    """The labels that were said, of cgroups that are still there; ``folder`` is where they are remembered."""

    def __init__(self, folder: Path, mount: Path, root: Path = Path("/")) -> None:
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

    def say(self, label: KeptLabel) -> None:
        """Keep a label, in the place of what was said of that cgroup; raises TooMany, and OSError where it is not kept."""
        others = self._others(label.cgroup_id)
        if label.uid != ROOT and sum(each.uid == label.uid for each in others) >= PER_USER:
            raise TooMany
        self._keep((*others, label))

    def unsay(self, cgroup_id: int) -> None:
        """Forget what was said of a cgroup; raises OSError where that is not kept."""
        self._keep(self._others(cgroup_id))

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
