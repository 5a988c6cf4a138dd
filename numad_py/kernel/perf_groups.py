# SPDX-License-Identifier: Apache-2.0

"""Count several events together, of a cgroup or of a process, and read them with one call a CPU or thread."""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from numad_py.kernel import perf_events
from numad_py.kernel.perf_events import Event
from numad_py.kernel.perf_scaling import VALUES
from numad_py.topology import Ints


@dataclass(frozen=True)
class Target:
    """Whom to count: a thread and those it begins, or an open cgroup directory's processes on one CPU."""

    pid: int = -1
    cpu: int = -1
    cgroup: int | None = None


class Group:
    """Events that take turns on the CPU's counters together, counted from now on for each target.

    Threads that are gone are left out. Raises OSError, with nothing left open, where an event cannot be had.
    """

    def __init__(self, events: tuple[Event, ...], targets: Iterable[Target]) -> None:
        self._leaders: list[int] = []
        self._descriptors: list[int] = []
        try:
            for target in targets:
                with suppress(ProcessLookupError):
                    self._leaders.append(self._open(events, target))
        except OSError:
            self.close()
            raise
        self._before = np.zeros((len(self._leaders), VALUES + len(events)), np.int64)

    def __len__(self) -> int:
        """How many descriptors it holds."""
        return len(self._descriptors)

    def change(self) -> Ints:
        """Give what was counted since it was last asked: a row for each target, see perf_scaling.

        Raises OSError where the kernel no longer counts one of them.
        """
        size = self._before.shape[1] * self._before.itemsize
        read = b"".join([os.read(leader, size) for leader in self._leaders])
        # perf_read() gives nothing of an event in error state, and since v6.15 ENODEV of one whose PMU is gone.
        if len(read) != self._before.nbytes:
            raise OSError(errno.ENODATA, "an event is no longer counted")
        now = np.frombuffer(read, np.int64).reshape(self._before.shape)
        change: Ints = now - self._before
        self._before = now
        return change

    def close(self) -> None:
        """Stop counting."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors, self._leaders = [], []

    def _open(self, events: tuple[Event, ...], target: Target) -> int:
        leader = -1
        for event in events:
            descriptor = perf_events.open_event(
                event,
                pid=target.pid,
                cpu=target.cpu,
                cgroup=target.cgroup,
                inherit=target.cgroup is None,
                threads_only=target.cgroup is None,  # children are targets too, and would be counted twice
                group=leader,
            )
            self._descriptors.append(descriptor)
            leader = descriptor if leader < 0 else leader
        perf_events.enable(leader)
        return leader


def usable(events: Iterable[Event]) -> tuple[tuple[Event, ...], tuple[tuple[Event, OSError], ...]]:
    """Try events in one group on this thread; give those that can be had together, and why others cannot."""
    opened: dict[Event, int] = {}
    refused = []
    for event in events:
        try:
            opened[event] = perf_events.open_event(event, pid=0, group=next(iter(opened.values()), -1))
        except OSError as error:
            refused.append((event, error))
    for descriptor in opened.values():
        os.close(descriptor)
    return tuple(opened), tuple(refused)
