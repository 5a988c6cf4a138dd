# SPDX-License-Identifier: Apache-2.0

"""Hold the events of one sampling and their rings, and take what they have every window."""

import contextlib
import math
import os
from dataclasses import dataclass

import numpy as np

from numad_py.kernel import perf_events
from numad_py.kernel.perf_ring import Records, Ring, Samples, parse, record_type
from numad_py.sense.investigate.access_sources import Source
from numad_py.sense.investigate.sampling_plan import Opening
from numad_py.sense.investigate.sampling_rate import GRANTED


@dataclass(frozen=True, eq=False)
class Taken:
    """What a window brought: samples of the time in which every event could see, and the busiest event's count.

    ``until_s`` is when the first event ran out, by CLOCK_MONOTONIC; infinite where none did.
    """

    samples: Samples
    busiest: int
    lost: bool
    until_s: float


class OpenEvents:
    """Events that sample, each until it has taken what is granted for a window.

    ``failed`` tells why events are missing. Threads that are gone are left out without a word.
    """

    def __init__(self, source: Source, opening: Opening, cgroup: int | None, period: int) -> None:
        self._kind = record_type(source.fields, raw_bytes=source.raw_bytes)
        self._sampling = perf_events.Sampling(period, source.fields, source.precise_ip)
        self._open: list[tuple[int, Ring]] = []
        self.failed: OSError | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._fill(source, opening, cgroup)
            undo.pop_all()

    def _fill(self, source: Source, opening: Opening, cgroup: int | None) -> None:
        for pid, cpu in opening.events:
            try:
                self._add(source, pid, cpu, cgroup, opening.ring_pages)
            except ProcessLookupError:
                continue
            except OSError as error:  # a limit, a right, or an event that this machine has not
                self.failed = error
                return

    def _add(self, source: Source, pid: int, cpu: int, cgroup: int | None, pages: int) -> None:
        event = perf_events.open_event(source.event, pid=pid, cpu=cpu, cgroup=cgroup, sampling=self._sampling)
        try:
            ring = Ring(event, pages)
        except OSError:
            os.close(event)
            raise
        self._open.append((event, ring))
        perf_events.refresh(event, GRANTED)

    def __len__(self) -> int:
        return len(self._open)

    def take(self) -> Taken:
        """Take what every ring has, and grant the next window's samples.

        An event that ran out was blind from then on, while others went on: whatever came later than that
        from any of them is left out, else the busiest threads would seem to touch the least.
        """
        records = [parse(ring.drain(), self._kind) for _, ring in self._open]
        for (event, _), each in zip(self._open, records, strict=True):
            if len(each.samples):
                perf_events.refresh(event, min(len(each.samples), GRANTED))
        samples = np.concatenate([np.zeros(0, self._kind), *(each.samples for each in records)])
        ends_ns = [int(each.samples["time_ns"][-1]) for each in records if len(each.samples) >= GRANTED]
        if ends_ns:
            samples = samples[samples["time_ns"] <= min(ends_ns)]
        busiest = max((len(each.samples) for each in records), default=0)
        return Taken(samples, busiest, _damaged(records), min(ends_ns) * 1e-9 if ends_ns else math.inf)

    def set_period(self, period: int) -> None:
        """Sample every so many events from now on."""
        for event, _ in self._open:
            perf_events.set_period(event, period)

    def close(self) -> None:
        """Close all. Safe to call twice."""
        while self._open:
            event, ring = self._open.pop()
            ring.close()
            os.close(event)


def _damaged(records: list[Records]) -> bool:
    return any(each.lost or each.throttled for each in records)
