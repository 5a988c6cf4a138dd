# SPDX-License-Identifier: Apache-2.0

"""How long a load from memory takes, alone and while other cores read."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from numad_py.calibrate import loops
from numad_py.calibrate.bandwidth import GB, rate
from numad_py.calibrate.figures import Effort, Figure, figure
from numad_py.calibrate.loops import Words
from numad_py.calibrate.threads import on_cpus

PAUSES: Final = (10_000, 3_000, 1_000, 300, 100, 0)
"""Multiplications, of about a nanosecond each, that a loading core does after each 4 KiB: from light load to full."""
_SETTLE_S: Final = 0.02

Around = Callable[[], AbstractContextManager[object]]
"""Entered in the chasing thread right before a chase and left right after, so that counters can be read there."""


@dataclass
class Chase:
    """A chase that goes on where it stopped, so that no line comes again before all others have."""

    chain: Words
    at: int = field(default=0, init=False)

    def step_ns(self, steps: int) -> float:
        """Take so many steps; give the time of one."""
        began_ns = time.perf_counter_ns()
        self.at = loops.chase(self.chain, self.at, steps)
        return (time.perf_counter_ns() - began_ns) / steps


@dataclass(frozen=True)
class Load:
    """What the loading cores read, and what a load from memory took meanwhile."""

    gb_per_s: float
    latency_ns: Figure


def idle(cpu: int, chase: Chase, effort: Effort, around: Around = nullcontext) -> Figure:
    """Measure one CPU's latency in nanoseconds while we do nothing else."""
    return on_cpus({cpu: partial(_repeated, chase, effort, around)})[cpu]


def loaded(cpu: int, chase: Chase, streams: Mapping[int, Words], pause: int, effort: Effort) -> Load:
    """Measure one CPU's latency while other CPUs read, each its own words."""
    done = threading.Event()
    figures: list[Figure] = []

    def chasing() -> float:
        try:
            time.sleep(_SETTLE_S)
            figures.append(_repeated(chase, effort))
        finally:
            done.set()
        return 0.0

    def loading(words: Words) -> float:
        return rate(lambda chunk: loops.read_slowly(chunk, pause), words, until=lambda _: done.is_set())

    work = {cpu: chasing} | {other: partial(loading, words) for other, words in streams.items()}
    return Load(sum(on_cpus(work).values()) / GB, figures[0])


def _repeated(chase: Chase, effort: Effort, around: Around = nullcontext) -> Figure:
    chase.step_ns(effort.steps)
    with around():
        return figure([chase.step_ns(effort.steps) for _ in range(effort.repetitions)])
