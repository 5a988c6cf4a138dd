# SPDX-License-Identifier: Apache-2.0

"""What processes will do over a whole trace, for baselines that know it beforehand.

Time is cut into `SPANS` parts of the same length, which double when the trace goes on beyond them: what is remembered
does not grow with it.

Units: CPU seconds, bytes, nanoseconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.model import Process, ProcessKey, Regions, Snapshot, Tick
from numad_py.sim.cost import Prices
from numad_py.topology import Bools, Floats, Ints, Topology

MOST_PROCESSES: Final = 4096  # that are remembered: those that used most CPU time
SPANS: Final = 32


@dataclass(eq=False)
class Life:
    """One process: where it ran, shape (spans, nodes), what it held, and by node what it held at first.

    ``held`` is bytes multiplied by seconds; ``move_ns`` is what it costs to move what was on each node at first.
    """

    nodes_allowed: tuple[int, ...]
    first_bytes: Ints
    move_ns: Floats
    cpu_s: Floats
    held: Floats

    @property
    def worked_s(self) -> float:
        """All of its CPU time."""
        return float(self.cpu_s.sum())

    def fold(self) -> None:
        """Make one span of every two."""
        for sums in (self.cpu_s, self.held):
            half = sums[0::2] + sums[1::2]
            sums[: SPANS // 2], sums[SPANS // 2 :] = half, 0


class Lives:
    """All processes of a trace, and what its jobs can have of the machine: ``room_bytes`` by node."""

    def __init__(self, ticks: Iterable[Tick], prices: Prices) -> None:
        self.of: dict[ProcessKey, Life] = {}
        self.topology: Topology | None = None
        self.room_bytes: Ints = np.zeros(0, np.int64)
        self.span_s = 0.0
        self._prices = prices
        begun_s = last_s = 0.0
        for tick in ticks:
            if self.topology is None:
                begun_s = last_s = tick.snapshot.time_s
                self.topology = tick.snapshot.topology
                self.room_bytes = tick.snapshot.memory.free_bytes + tick.snapshot.movable_bytes.sum(axis=0)
            self._add(tick.snapshot, tick.snapshot.time_s - last_s, tick.snapshot.time_s - begun_s)
            last_s = tick.snapshot.time_s

    def _add(self, snapshot: Snapshot, elapsed_s: float, age_s: float) -> None:
        span = self._span(age_s, elapsed_s)
        for process, cpu_s in zip(snapshot.processes, snapshot.cpu_s, strict=True):
            if len(process.regions):
                life = self.of.get(process.key) or self._met(process, len(cpu_s))
                life.cpu_s[span] += cpu_s * (elapsed_s > 0)  # the first look tells of a time before the trace
                life.held[span] += float(process.regions.resident_bytes.sum()) * elapsed_s
        if len(self.of) > 2 * MOST_PROCESSES:
            busiest = sorted(self.of.items(), key=lambda item: (-item[1].worked_s, item[0]))
            self.of = dict(busiest[:MOST_PROCESSES])

    def _span(self, age_s: float, elapsed_s: float) -> int:
        """Give the part of the trace that a look ends in; looks are in the one that they began in."""
        self.span_s = self.span_s or elapsed_s
        while self.span_s and age_s - elapsed_s >= SPANS * self.span_s:
            self.span_s *= 2
            for life in self.of.values():
                life.fold()
        return int((age_s - elapsed_s) / self.span_s) if self.span_s else 0

    def _met(self, process: Process, nodes: int) -> Life:
        rows = process.regions.take(may_move(process.regions))
        move_ns = (self._prices.page_ns(rows.page_bytes) @ rows.pages).astype(np.float64)
        first_bytes: Ints = process.regions.resident_bytes.sum(axis=0)
        life = Life(process.nodes_allowed, first_bytes, move_ns, np.zeros((SPANS, nodes)), np.zeros(SPANS))
        self.of[process.key] = life
        return life


def may_move(regions: Regions) -> Bools:
    """By VMA: whether a replay lets it move."""
    may: Bools = regions.movable & (regions.mapmax <= 1)
    return may
