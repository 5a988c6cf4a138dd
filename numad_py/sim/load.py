# SPDX-License-Identifier: Apache-2.0

"""How late memory answers while it is used, and how much of it gets through.

Problem: every access makes all others on its way wait, and those who wait ask for less.

Primitive: a controller for each node, a wire for each direction between two nodes, and a link for each direction
between two packages, each with a limit. At the load u of the busiest of them an access from node i to node j takes
``idle_ns[i, j] * (1 + slope*u + knee*u**power)``. Where more is asked than the limit, what gets through is the limit,
and latency is what Little's law leaves: requests outstanding over throughput.

Application: the score solves this once a tick for all processes; `make validate` for published machines.

That a wire's load adds as much as a controller's is an assumption: nobody has published latencies of remote memory
under load. Links are taken to be full-duplex: what is read flows towards the reader, what is written away from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from numad_py.topology import Floats, Ints

LINE_BYTES: Final = 64
MOST_ROUNDS: Final = 1_000  # a handful is usual; over a hundred where many servers are just full

_POWERS: Final = np.geomspace(2, 100, 80)
_SURE: Final = 1e-6  # of a limit
_LEAST, _MOST = 1e-9, 1e6  # of a limit: less is nothing, and yet has a logarithm
_LEAST_SLOPE: Final = 0.05  # where traffic does not wait at all, no load is enough to hold it back
_LONGEST: Final = 20.0  # a step, as a logarithm
_FASTER: Final = 1.2


@dataclass(frozen=True)
class Curve:
    """By how much latency grows with load, which is a share of the limit."""

    slope: float
    knee: float
    power: float

    def factor(self, load: Floats) -> Floats:
        """Give latency over idle latency; beyond the limit what Little's law leaves."""
        u = np.minimum(load, 1)
        factor: Floats = (1 + self.slope * u + self.knee * u**self.power) * np.maximum(load, 1)
        return factor

    def elasticity(self, load: Floats) -> Floats:
        """Give by how many per cent latency grows when load grows by one per cent."""
        bent = self.knee * np.minimum(load, 1) ** self.power
        growth = (self.slope * load + self.power * bent) / (1 + self.slope * load + bent)
        elasticity: Floats = np.where(load < 1, growth, 1.0)
        return elasticity


# Fitted to all sweeps in sim/machines/ together; tests/unit/sim/test_load.py fits them again.
POOLED: Final = Curve(0.52, 0.68, 32.0)


def fit(sweeps: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Curve:
    """Fit one curve to sweeps of GB/s and ns, each over its own largest load and its latency at the least.

    For each power least squares of the relative errors give the other two.
    """
    loads, factors = (np.concatenate(each) for each in zip(*map(_normal, sweeps), strict=True))
    best, least = POOLED, np.inf
    for power in _POWERS:
        rows = np.column_stack([loads, loads**power]) / factors[:, None]
        found = np.maximum(np.linalg.lstsq(rows, 1 - 1 / factors)[0], 0)
        error = float(((rows @ found - 1 + 1 / factors) ** 2).sum())
        if error < least:
            best, least = Curve(float(found[0]), float(found[1]), float(power)), error
    return best


def _normal(sweep: tuple[Sequence[float], Sequence[float]]) -> tuple[Floats, Floats]:
    gb_per_s, latency_ns = np.array(sweep, np.float64)
    return gb_per_s / gb_per_s.max(), latency_ns / latency_ns[gb_per_s.argmin()]


@dataclass(frozen=True, eq=False)
class Machine:
    """Idle latencies and limits; infinity where no limit is known.

    ``idle_ns`` and ``wire_gb_per_s`` have the shape (initiators, targets); a wire carries from the target to the
    initiator. ``package`` has each node's package, ``link_gb_per_s`` is what flows from one package to another.
    ``mix`` tells by the share of bytes that are written, upwards, which part of its limit a controller gives.
    """

    idle_ns: Floats
    controller_gb_per_s: Floats
    wire_gb_per_s: Floats
    package: Ints
    link_gb_per_s: float = np.inf
    curve: Curve = POOLED
    mix: tuple[tuple[float, float], ...] = ()

    @cached_property
    def limits(self) -> Floats:
        """Those of the controllers, wires and links in turn."""
        packages = self.package.max() + 1
        links = np.where(np.eye(packages) > 0, np.inf, self.link_gb_per_s)
        wires = np.where(np.eye(len(self.idle_ns)) > 0, np.inf, self.wire_gb_per_s)
        return np.concatenate([self.controller_gb_per_s, wires.ravel(), links.ravel()])

    def carried(self, gb_per_s: Floats, write_share: float) -> Floats:
        """Give what each of them carries when that much is accessed from node to node; writes keep a controller longer."""
        wires = (1 - write_share) * gb_per_s + write_share * gb_per_s.T
        within = np.eye(self.package.max() + 1)[self.package]
        controllers = gb_per_s.sum(axis=0) / self._part_given(write_share)
        return np.concatenate([controllers, wires.ravel(), (within.T @ wires @ within).ravel()])

    def _part_given(self, write_share: float) -> float:
        shares, parts = zip(*self.mix, strict=True) if self.mix else ((0.0,), (1.0,))
        return float(np.interp(write_share, shares, parts))

    def on_the_way(self, values: Floats, write_share: float) -> Floats:
        """Give the largest value on the way between two nodes."""
        nodes = len(self.idle_ns)
        controllers, wires, links = np.split(values, [nodes, nodes + nodes * nodes])
        packages = self.package.max() + 1
        between = links.reshape(packages, packages)[np.ix_(self.package, self.package)]
        wires = np.maximum(wires.reshape(nodes, nodes), between)
        if write_share:
            wires = np.maximum(wires, wires.T)
        largest: Floats = np.maximum(wires, controllers)
        return largest


@dataclass(frozen=True, eq=False)
class Demand:
    """What runs on a machine; the first axis of both arrays is the process.

    ``gb_per_s`` is what would be accessed from each node, if all memory answered as local memory does at rest;
    ``reach`` has the shape (processes, nodes, nodes), of what is accessed from one node the share of another. ``waiting_share`` is the part of the time that waits for memory then: 1 for a
    stream, 0 for traffic that comes whatever it costs. ``write_share`` is of the bytes.
    """

    gb_per_s: Floats
    reach: Floats
    waiting_share: float = 1.0
    write_share: float = 0.0

    @cached_property
    def idle(self) -> Floats:
        """1 where a process reaches for nothing from a node, else 0: it waits as near memory would let it."""
        return np.where(self.reach.any(axis=2), 0.0, 1.0)


def from_everywhere(share: Floats) -> Floats:
    """Give the reach of processes whose accesses go to the same nodes, wherever they come from."""
    nodes = share.shape[1]
    return np.broadcast_to(share[:, None, :], (len(share), nodes, nodes))


@dataclass(frozen=True, eq=False)
class Loaded:
    """What comes of a demand: latency and traffic from node to node, and the rounds it took to find."""

    latency_ns: Floats
    gb_per_s: Floats
    rounds: int


def solve(on: Machine, demand: Demand) -> Loaded:
    """Find the loads whose latencies make those who wait ask for just these loads.

    Newton's method for each server by itself, on the logarithm of its load. What is asked falls at most as fast as
    latency grows, so that a step is rather too short than too long.
    """
    load = np.full(len(on.limits), _LEAST)
    pace, last = np.ones_like(load), np.zeros_like(load)
    rounds, moved = 0, np.inf
    while moved > _SURE and rounds < MOST_ROUNDS:
        asked, slope = _asked(on, demand, load)[2:]
        gap = np.log(np.maximum(asked, _LEAST) / np.where(load < 1, load, 1.0))
        step = np.clip(gap / np.maximum(slope, _LEAST_SLOPE), -_LONGEST, _LONGEST)
        # Where servers share a path they may throw each other back and forth: who turns round goes half as far.
        pace, last = np.where(step * last < 0, pace / 2, np.minimum(pace * _FASTER, 1.0)), step
        stepped = np.clip(load * np.exp(pace * step), _LEAST, _MOST)
        load, moved, rounds = stepped, float(np.abs(stepped - load).max()), rounds + 1
    latency_ns, gb_per_s, asked, _ = _asked(on, demand, load)
    return Loaded(latency_ns, gb_per_s / np.maximum(on.on_the_way(asked, demand.write_share), 1), rounds)


def _asked(on: Machine, demand: Demand, load: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Give latencies at these loads, what is then asked from node to node and of each server, and its slope."""
    latency_ns = on.idle_ns * on.curve.factor(on.on_the_way(load, demand.write_share))
    ratio = latency_ns / np.diag(on.idle_ns)[:, None]
    waiting = demand.waiting_share * (np.einsum("pij,ij->pi", demand.reach, ratio) + demand.idle)
    stretch = 1 - demand.waiting_share + waiting
    gb_per_s = np.einsum("pi,pij->ij", demand.gb_per_s / stretch, demand.reach)
    asked = on.carried(gb_per_s, demand.write_share) / on.limits
    most_waiting = (waiting / stretch).max(initial=0.0, where=demand.gb_per_s > 0)
    return latency_ns, gb_per_s, asked, (load < 1) + most_waiting * on.curve.elasticity(load)
