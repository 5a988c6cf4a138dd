# SPDX-License-Identifier: Apache-2.0

"""Carry out one move on page counts, as the kernel and the live actuator would.

Problem: a wish names ranges, sources, targets and a limit; some of it arrives.

Primitive: rows in the order of addresses, each with the pages that would leave and arrive by node, and
caps on their running sums: bytes asked for, moving time left, room on each target.

Application: `ReplayedMachine.move`, one wish after the other.

Units: pages of a row's own size, bytes, nanoseconds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from numad_py.model import Ending, MovePages, Outcome, Regions
from numad_py.ranges import overlaps
from numad_py.sim.cost import Prices
from numad_py.sim.placement import apportion
from numad_py.topology import Addresses, Floats, Ints


@dataclass(frozen=True, eq=False)
class Flow:
    """Pages by row and node that leave, and that arrive; both have the same sum in every row."""

    leaving: Ints
    arriving: Ints

    @cached_property
    def pages(self) -> Ints:
        """Pages by row."""
        pages: Ints = self.leaving.sum(axis=1)
        return pages

    def part(self, pages: Ints) -> "Flow":
        """Give the flow of that many pages of each row."""
        if np.array_equal(pages, self.pages):
            return self
        return Flow(apportion(self.leaving, pages), apportion(self.arriving, pages))


@dataclass(frozen=True, eq=False)
class _Cover:
    """How far a wish's ranges cover each row: the outermost addresses, and the pages within."""

    low: Addresses
    high: Addresses
    pages: Ints


def carry_out(
    move: MovePages,
    regions: Regions,
    index_of: Mapping[int, int],
    room_bytes: Ints,
    left_ns: int,
    prices: Prices,
) -> tuple[Outcome, Flow]:
    """Say what becomes of a wish with that much room by node and that much moving time left."""
    cover = _cover(move, regions)
    wished = _flow(move, regions.pages, cover.pages, index_of)
    if left_ns <= prices.call_ns and wished.leaving.any():
        none = np.zeros_like(wished.leaving)
        return Outcome(Ending.DEADLINE), Flow(none, none)
    # Since Linux 2.6.18 move_pages(2) answers EACCES for a page that several processes map, without MPOL_MF_MOVE_ALL.
    for_all = (regions.backing > 0) & bool(move.among)
    refused = np.where((regions.mapmax > 1) & ~for_all, wished.pages, 0)
    wanted = wished.part(wished.pages - refused)
    price_ns = prices.page_ns(regions.page_bytes)
    moved, ending, stop = _as_far_as_possible(
        wanted,
        [
            (Ending.LIMIT, wanted.pages * regions.page_bytes, move.limit_bytes),
            (Ending.DEADLINE, wanted.pages * price_ns, left_ns - prices.call_ns),
            *_rooms(wanted, regions.page_bytes, room_bytes),
        ],
    )
    refused[stop:] = 0
    outcome = Outcome(
        ending,
        moved_bytes=int(moved.pages @ regions.page_bytes),
        failed={"EACCES": int(refused.sum())} if refused.any() else {},
        stayed_start=cover.low[refused > 0],
        stayed_end=cover.high[refused > 0],
        reached=_reached(move, regions, cover, moved.pages, wanted.pages, stop),
        took_s=(int(moved.pages @ price_ns) + prices.call_ns * bool(wished.pages.any())) * 1e-9,
    )
    return outcome, moved


def _cover(move: MovePages, regions: Regions) -> _Cover:
    rows = np.searchsorted(regions.start, move.start)
    rows = rows[: np.searchsorted(rows, len(regions))]
    whole = np.array_equal(regions.start[rows], move.start) and np.array_equal(regions.end[rows], move.end)
    return _cover_of_rows(rows, regions) if whole else _cover_of_ranges(move, regions)


def _cover_of_rows(rows: Ints, regions: Regions) -> _Cover:
    """Cover whole rows, as most wishes do, in a fifth of the time."""
    if len(rows) == len(regions):
        return _Cover(regions.start, regions.end, regions.pages.sum(axis=1))
    low, high, pages = regions.end.copy(), regions.start.copy(), np.zeros(len(regions), np.int64)
    low[rows], high[rows] = regions.start[rows], regions.end[rows]
    pages[rows] = regions.pages[rows].sum(axis=1)
    return _Cover(low, high, pages)


def _cover_of_ranges(move: MovePages, regions: Regions) -> _Cover:
    ranges, rows, shared = overlaps(move.start, move.end, regions.start, regions.end)
    low, high = regions.end.copy(), regions.start.copy()
    np.minimum.at(low, rows, np.maximum(move.start[ranges], regions.start[rows]))
    np.maximum.at(high, rows, np.minimum(move.end[ranges], regions.end[rows]))
    covered_bytes = np.bincount(rows, shared, minlength=len(regions))
    part = covered_bytes / (regions.end - regions.start).astype(np.float64)
    return _Cover(low, high, _whole_pages(regions.pages.sum(axis=1), part))


def _flow(move: MovePages, pages: Ints, covered: Ints, index_of: Mapping[int, int]) -> Flow:
    """Say what would leave and arrive, were there no limit.

    Counts do not say where in a row a page lies. Of a row that the ranges cover in part, the pages to be
    moved are taken to lie in that part, so that going on at ``reached`` finds what is left.
    """
    targets = [index_of[node] for node in move.targets]
    may_leave = np.zeros(pages.shape[1], bool)
    may_leave[[index_of[node] for node in move.sources]] = True
    concerned = may_leave.copy()
    concerned[targets] = len(targets) > 1  # with one target, what is there already has arrived
    within = pages * concerned
    held = within.sum(axis=1)
    if (held > covered).any():
        held = np.minimum(held, covered)
        within = apportion(within, held)
    share = np.zeros_like(within)
    turn = len(targets) - 1 - np.arange(len(targets))
    share[:, targets] = (held[:, None] + turn) // len(targets)
    leaving = np.where(may_leave, np.maximum(within - share, 0), 0)
    arriving = np.maximum(share - within, 0)
    if not concerned[~may_leave].any():  # then as much arrives as leaves
        return Flow(leaving, arriving)
    return Flow(leaving, apportion(arriving, leaving.sum(axis=1)))


def _rooms(wanted: Flow, page_bytes: Ints, room_bytes: Ints) -> Iterator[tuple[Ending, Ints, int]]:
    for node in np.flatnonzero(wanted.arriving.any(axis=0)):
        yield Ending.NO_ROOM, wanted.arriving[:, node] * page_bytes, int(room_bytes[node])


def _as_far_as_possible(wanted: Flow, caps: list[tuple[Ending, Ints, int]]) -> tuple[Flow, Ending, int]:
    """Give what moves within all caps, what stopped it, and the row where: the number of rows if nothing did."""
    caps = [(ending, cost, cap) for ending, cost, cap in caps if cost.sum() > cap]
    if not caps:
        return wanted, Ending.DONE, len(wanted.pages)
    parts = np.stack([_affordable(cost, cap) for _, cost, cap in caps])
    moved = wanted.part(_whole_pages(wanted.pages, parts.min(axis=0)))
    short = np.flatnonzero(moved.pages < wanted.pages)
    if not len(short):
        return moved, Ending.DONE, len(wanted.pages)
    return moved, caps[int(parts[:, short[0]].argmin())][0], int(short[0])


def _affordable(cost: Ints, cap: int) -> Floats:
    """By row, the part whose cost, after that of all rows before it, stays within the cap."""
    before = cost.cumsum() - cost
    part: Floats = np.where(cost > 0, np.clip((cap - before) / np.maximum(cost, 1), 0, 1), 1.0)
    return part


def _whole_pages(pages: Ints, part: Floats) -> Ints:
    # A float's error over 2^40 pages is below a thousandth of a page: this rounds no real fraction up.
    return (pages * part + 1e-3).astype(np.int64)


def _reached(move: MovePages, regions: Regions, cover: _Cover, moved: Ints, wanted: Ints, stop: int) -> int:
    if stop == len(regions):
        return int(move.end[-1]) if len(move.end) else 0
    span, page = int(cover.high[stop] - cover.low[stop]), int(regions.page_bytes[stop])
    return int(cover.low[stop]) + span * int(moved[stop]) // int(wanted[stop]) // page * page
