# SPDX-License-Identifier: Apache-2.0

"""What outlives a restart: the affinities that are to be restored, and what the guard waits for."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from numad_py.act.affinity_journal import Affinities, AffinityJournal, Restored
from numad_py.act.masks import Masks
from numad_py.daemon import state
from numad_py.kernel import cgroup
from numad_py.model import Waits
from numad_py.roles import Policy

SAVE_S: Final = 10.0


def boot_id(root: Path = Path("/")) -> str:
    """Give what tells this boot from every other."""
    return (root / "proc/sys/kernel/random/boot_id").read_text().strip()


def journal(folder: Path, root: Path = Path("/")) -> AffinityJournal:
    """Open the journal of affinities, with what an earlier daemon left to be restored."""
    mount, path = cgroup.read_mount_point(root), folder / "affinities"
    masks = Masks(mount or root / "sys/fs/cgroup", root)
    return AffinityJournal(masks, boot_id(root), state.load(path, Affinities), partial(state.save, path))


def restore(affinities: AffinityJournal, but: Collection[int] = ()) -> Restored:
    """Give every thread back what it had before us, but in the jobs with these cgroup ids, and say so."""
    restored = affinities.restore(but)
    if restored != Restored():
        structlog.get_logger().info(
            "affinities restored", threads=restored.threads, left_alone=restored.left_alone
        )
    return restored


@dataclass(frozen=True)
class _Kept:
    boot_id: str
    waits: Waits


class Backoffs:
    """Keeps on disk what the guard waits for, so that a restart does not repeat a refused move."""

    def __init__(
        self, folder: Path, root: Path = Path("/"), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / "backoffs.json"
        self._boot_id = boot_id(root)
        self._now = now
        self._saved_s = now()
        kept = state.load(self._path, _Kept)
        # Its times are CLOCK_MONOTONIC, which begins anew with every boot; so do PIDs.
        self.waits = kept.waits if kept and kept.boot_id == self._boot_id else Waits()

    def turn(self, policy: Policy) -> None:
        """Save what has changed, but not at every turn."""
        if self._now() >= self._saved_s + SAVE_S:
            self._saved_s = self._now()
            self.save(policy)

    def save(self, policy: Policy) -> None:
        """Save it now, if it has changed."""
        if (waits := policy.waits()) != self.waits:
            try:
                state.save(self._path, _Kept(self._boot_id, waits))
            except OSError as error:
                structlog.get_logger().warning("back-offs not saved", why=str(error))
            self.waits = waits
