# SPDX-License-Identifier: Apache-2.0

"""Find out whether the CPU's events tell local from remote memory here: count them around each chase."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from numad_py.kernel.perf_groups import Group, Target
from numad_py.kernel.perf_scaling import scaled
from numad_py.kernel.pmu_events import Counts, Row, verified

Pair = tuple[int, int]


class Trial:
    """Counts the local and the remote accesses of a row of events, by pair of initiator and target."""

    def __init__(self, row: Row, open_group: Callable[[], Group] | None = None) -> None:
        self._row = row
        self._open = open_group or partial(Group, (row.local, row.remote), [Target(pid=0)])
        self._runs: dict[Pair, Counts] = {}

    @contextlib.contextmanager
    def around(self, initiator: int, target: int) -> Iterator[None]:
        """Count what this thread does meanwhile; nothing where the events cannot be had."""
        try:
            group = self._open()
        except OSError:  # what cannot be counted is not verified
            yield
            return
        try:
            yield
            if (counted := scaled(group.change())) is not None:
                local, remote = counted.tolist()
                self._runs[initiator, target] = self._row.counts(local, remote)
        finally:
            group.close()

    @property
    def verified(self) -> bool:
        """Whether, from every node that chased, local and remote memory were each told for what they were."""
        remote = [pair for pair in self._runs if pair[0] != pair[1]]
        return bool(remote) and all(
            (a, a) in self._runs and verified(self._runs[a, a], self._runs[a, b]) for a, b in remote
        )
