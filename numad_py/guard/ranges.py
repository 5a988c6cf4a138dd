# SPDX-License-Identifier: Apache-2.0

"""Trim the ranges of a wish to those that may move now."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from numad_py.model import MovePages, Process, Regions
from numad_py.topology import Addresses, Bools, Ints, Topology


@dataclass(frozen=True, eq=False)
class Stayed:
    """Ranges that would not move, and until when they are left alone; ``alone``, as long as not for all who map them."""

    until_s: float
    start: Addresses
    end: Addresses
    alone: bool = False

    def within(self, regions: Regions) -> "Stayed":
        """Give those of which the region, or some of it, is still there."""
        there = overlap(self.start, self.end, regions.start, regions.end)
        return self if there.all() else replace(self, start=self.start[there], end=self.end[there])

    def meets(self, start: Addresses, end: Addresses) -> Bools:
        """Say which of these ranges overlap with any of its own."""
        return overlap(start, end, self.start, self.end)


@dataclass(frozen=True, eq=False)
class Brought:
    """Ranges, ascending and apart, that were moved to these nodes last."""

    targets: tuple[int, ...]
    start: Addresses
    end: Addresses

    def and_(self, move: MovePages) -> "Brought":
        """Add what was moved there now."""
        start = np.concatenate([self.start, move.start])
        end = np.concatenate([self.end, move.end])
        order = np.argsort(start, kind="stable")
        start, up_to = start[order], np.maximum.accumulate(end[order])
        first = np.append(True, start[1:] > up_to[:-1])
        return Brought(self.targets, start[first], up_to[np.append(first[1:], True)])

    def without(self, move: MovePages) -> "Brought":
        """Leave out what was moved elsewhere now."""
        _, start, end = _cut(self.start, self.end, move.start, move.end)
        return Brought(self.targets, start, end)


def brought(before: Iterable[Brought], move: MovePages) -> tuple[Brought, ...]:
    """Give what lies where after a move."""
    others = {each.targets: each.without(move) for each in before if each.targets != move.targets}
    there = next((each for each in before if each.targets == move.targets), None)
    there = there.and_(move) if there else Brought(move.targets, move.start, move.end)
    return (*(each for each in others.values() if len(each.start)), there)


def turns(before: Iterable[Brought], move: MovePages) -> bool:
    """Say whether a move takes anything elsewhere that was brought to other nodes."""
    others = (each for each in before if each.targets != move.targets)
    return any(overlap(move.start, move.end, each.start, each.end).any() for each in others)


def overlap(start: Addresses, end: Addresses, others_start: Addresses, others_end: Addresses) -> Bools:
    """Say which ranges overlap with any of the others, which are ascending and apart."""
    last = np.searchsorted(others_start, end) - 1  # the last that begins before each ends
    met: Bools = last >= 0
    met[met] = others_end[last[met]] > start[met]
    return met


def only_movable(move: MovePages, process: Process) -> MovePages:
    """Keep the ranges that lie in regions that may ever be moved: for all who map them, or for it alone."""
    regions = process.regions
    movable = regions.shared if move.among else regions.movable
    if not len(regions):
        return _with_ranges(move, np.zeros(len(move.start), bool))
    row = np.searchsorted(regions.start, move.start, side="right") - 1
    inside = (row >= 0) & (move.end <= regions.end[row])
    return _with_ranges(move, inside & movable[row])


def _with_ranges(move: MovePages, keep: np.ndarray) -> MovePages:
    if keep.all():
        return move
    return replace(
        move, start=move.start[keep], end=move.end[keep], page_bytes=move.page_bytes[keep], whole=False
    )


def gaining(move: MovePages, process: Process, on: Topology) -> list[int]:
    """Give the positions of the targets that get pages: of several, those with less than an even share."""
    targets = [on.index_of[target] for target in move.targets]
    held = process.regions.resident_bytes.sum(axis=0)[targets]
    poorer = held * len(targets) < held.sum()
    return [target for target, gains in zip(targets, poorer.tolist(), strict=True) if gains] or targets


def without_stayed(
    move: MovePages, stayed: Iterable[Stayed], now_s: float, process: Process, on: Topology
) -> MovePages:
    """Cut out what would not move a while ago, of ranges that lie in regions of the process.

    The limit is no more than what is left of what the regions have on the sources: what moves takes no room from others,
    and nothing is looked for in vain.
    """
    fresh = [
        (each.start, each.end) for each in stayed if now_s < each.until_s and not (each.alone and move.among)
    ]
    if not fresh:
        return move
    holes = np.sort(np.concatenate([np.stack(pair, axis=1) for pair in fresh]), axis=0)
    row, start, end = _cut(move.start, move.end, holes[:, 0], holes[:, 1])
    left_bytes = np.bincount(row, end - start, len(move.start))
    regions = process.regions
    region = np.searchsorted(regions.start, move.start, side="right") - 1
    there = [on.index_of[source] for source in move.sources if source in on.index_of]
    away_bytes = regions.resident_bytes[region][:, there].sum(axis=1)
    may_go_bytes = np.clip(away_bytes - (move.end - move.start - left_bytes), 0, left_bytes)
    return replace(
        move,
        start=start,
        end=end,
        page_bytes=move.page_bytes[row],
        limit_bytes=min(move.limit_bytes, int(may_go_bytes.sum())),
        whole=False,
    )


def _cut(
    ranges_start: Addresses, ranges_end: Addresses, hole_start: Addresses, hole_end: Addresses
) -> tuple[Ints, Addresses, Addresses]:
    """Give what is left of ranges, and of which; they and the holes are ascending and apart."""
    start = np.concatenate([ranges_start, hole_end])
    end = np.concatenate([ranges_end, hole_start])
    start.sort()
    end.sort()
    row = np.searchsorted(ranges_start, start, side="right") - 1
    keep = (row >= 0) & (start < end)
    row = np.maximum(row, 0)
    keep &= end <= ranges_end[row]
    return row[keep], start[keep], end[keep]


def from_where_it_got_to(move: MovePages, reached: int) -> MovePages:
    """Go on behind what the last move dealt with, or from the beginning once that is all."""
    keep = move.end > np.uint64(reached)
    if not reached or not keep.any():
        return move
    trimmed = _with_ranges(move, keep)
    return replace(trimmed, start=np.maximum(trimmed.start, np.uint64(reached)))
