# SPDX-License-Identifier: Apache-2.0

"""One sampling, window by window: take samples, set the rate, and pause where the job pays too much."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.sense.investigate.access_sources import Source
from numad_py.sense.investigate.open_events import OpenEvents, Taken
from numad_py.sense.investigate.sampling_plan import Opening
from numad_py.sense.investigate.sampling_rate import LEAST_WINDOW_S, Rate, Window, pause_s, window_s
from numad_py.topology import Ints

KEPT: Final = np.dtype([("pid", "<i4"), ("tid", "<i4"), ("cpu", "<i4"), ("address", "<u8")])
_MOST_KEPT: Final = 1 << 20  # 20 MB
# The first event of its kind makes the kernel patch its fault path (static_key_slow_inc() in perf_swevent_init(),
# kernel/events/core.c), the last one patches it back: that interrupts every CPU, and so must not happen often.
_LEAST_PAUSE_S: Final = 0.5


@dataclass(eq=False)
class Seen:
    """What a sampling has brought so far.

    ``accesses`` estimates how many the source could have told of, ``variance`` is that of the estimate;
    ``watched_s`` is the time in which every event could see.
    """

    chunks: list[NDArray[np.void]] = field(default_factory=list)
    kept: int = 0
    taken: int = 0
    accesses: int = 0
    variance: float = 0.0
    watched_s: float = 0.0
    cost_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, samples: NDArray[np.void], period: int) -> None:
        """Keep samples of accesses."""
        self.chunks.append(samples[list(KEPT.names or ())].astype(KEPT))
        self.kept += len(samples)
        self.accesses += len(samples) * period
        self.variance += len(samples) * period**2


class SamplingRun:
    """Events that are open, or for a while are not; ``turn`` is called again after the time that it gives."""

    def __init__(
        self,
        source: Source,
        opening: Opening,
        pids: Ints,
        *,
        cgroup: Path | None,
        budget_share: float,
        job_share: float,
        opener: Callable[[Source, Opening, int | None, int], OpenEvents] = OpenEvents,
    ) -> None:
        self._source, self._opening, self._pids = source, opening, pids
        self._budget_share, self._job_share = budget_share, job_share
        self._rate: Rate = source.rate
        self._job_cost_s = 0.0
        self._began_s = self._window_s = time.monotonic()
        self.seen = Seen()
        self.over = False
        self._opener = opener
        self._events: OpenEvents | None = None
        self._cgroup = None
        if cgroup is not None and opening.by_cgroup:
            self._cgroup = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open()

    def turn(self) -> float:
        """Do what is due, and give how many seconds to wait before the next turn."""
        before_s = time.thread_time()
        if self._events is None:
            self._open()
            return LEAST_WINDOW_S
        now_s = time.monotonic()
        taken = self._events.take()
        self._keep(taken)
        length_s, self._window_s = now_s - self._window_s, now_s
        seen_share = min(max((taken.until_s - now_s) / length_s + 1, 0.0), 1.0)
        pause = self._adapt(Window(taken.busiest, taken.lost, length_s, seen_share))
        spent_s = time.thread_time() - before_s
        self.seen.cost_s += spent_s
        return pause or window_s(spent_s, budget_share=self._budget_share)

    def close(self) -> None:
        """Let go of all. Safe to call twice."""
        self._pause()
        if self._cgroup is not None:
            os.close(self._cgroup)
            self._cgroup = None

    def _pause(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _open(self) -> None:
        before_s = time.thread_time()
        self._events = self._opener(self._source, self._opening, self._cgroup, self._rate.period)
        self._window_s = time.monotonic()
        self.seen.cost_s += time.thread_time() - before_s
        if failed := self._events.failed:
            opened = f"{len(self._events)} of {len(self._opening.events)}"
            self.seen.problems.append(f"{opened} events of {self._source.kind} could be opened: {failed}")
        if not len(self._events):
            self._end(f"nothing to sample {self._source.kind} on")

    def _keep(self, taken: Taken) -> None:
        self.seen.taken += len(taken.samples)
        if taken.lost:
            return
        samples = taken.samples[self._source.accessed(taken.samples)]
        self.seen.add(samples[np.isin(samples["pid"], self._pids)], self._rate.period)
        if self.seen.kept > _MOST_KEPT:
            self._end(f"stopped after {_MOST_KEPT} samples, which are enough")

    def _adapt(self, window: Window) -> float:
        """Set the rate, or close all events; give how long they have to stay closed."""
        period = self._rate.period
        self._rate = self._rate.after(window)
        self.seen.watched_s += 0 if window.lost else window.length_s * window.seen_share
        if self._rate.hopeless:
            self._end(f"records of {self._source.kind} were lost again and again: too many to read")
        self._job_cost_s += window.samples * (period * self._source.counted_s + self._source.sampled_s)
        pause = pause_s(self._job_cost_s, self._window_s - self._began_s, job_share=self._job_share)
        if pause > LEAST_WINDOW_S:
            self._pause()
            return max(pause, _LEAST_PAUSE_S)
        if self._events is not None and self._rate.period != period:
            self._events.set_period(self._rate.period)
        return 0.0

    def _end(self, why: str) -> None:
        self.seen.problems.append(why)
        self.over = True
