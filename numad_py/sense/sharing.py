# SPDX-License-Identifier: Apache-2.0

"""Tell which memory the processes of a job share among themselves, and with nobody else.

Problem: pages that several processes map may be moved only if all of these are of one job.
Primitive: what is mapped has a name, which all who map it know: a file its device and inode, anonymous
memory the stack address that exec drew and fork passed on. Where in it, tells an offset or an address.
Application: where no page of a place is mapped by more processes (``mapmax``) than the job has that
have pages of it, no others map it. Whoever moves it asks once more who does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import ksm
from numad_py.sense.known import Known
from numad_py.sense.placement import Placement
from numad_py.topology import Addresses, Bools, Ints

_NUMBER: Final = np.uint64((1 << 52) - 1)  # the bits of a number, so that who takes it for a double is exact
_SPREADING: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # as in kernel/maps.py
_ROW: Final = np.dtype(
    [("name", "u8"), ("place", "u8"), ("mapmax", "i8"), ("anon_pages", "i8"), ("unbound", "?")]
)

Rows = NDArray[np.void]


class Sharing:
    """Remembers what was told of each job, named by its cgroup id."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._told: dict[int, list[Placement | None]] = {}

    def tell(self, jobs: Mapping[int, Sequence[Known]]) -> None:
        """Tell every process's placement what it shares within its job, where any of the job was read anew."""
        for job, members in jobs.items():
            before, now = self._told.get(job, []), [each.placement for each in members]
            if len(before) != len(now) or any(old is not new for old, new in zip(before, now, strict=True)):
                seen = (each for each in members if each.placement and not each.why)
                self._tell([each for each in seen if each.placement and len(each.placement.mapped.row)])
        self._told = {job: [each.placement for each in members] for job, members in jobs.items()}

    def _tell(self, members: Sequence[Known]) -> None:
        rows = [_rows(known) for known in members]
        lengths = [len(each) for each in rows]
        who = np.repeat(np.arange(len(rows)), lengths)
        every = np.concatenate([np.zeros(0, _ROW), *rows])
        number = (every["name"] * _SPREADING ^ every["place"]) & _NUMBER
        backing = np.where(_is_within(every, who), number, np.uint64(0))
        if backing.any() and ksm.shared_pages(self._root):  # of whomever: which ones, nobody tells
            backing[every["anon_pages"] > 0] = 0
        ends = np.cumsum(lengths, dtype=np.int64)[:-1]
        for known, *own in zip(
            members, np.split(backing, ends), np.split(every["place"], ends), strict=False
        ):
            _note(known, *own)


def _rows(known: Known) -> Rows:
    """Give the rows of a process that others map too."""
    assert known.placement is not None  # noqa: S101 - for the type checker
    regions, mapped = known.placement.regions, known.placement.mapped
    rows = np.zeros(len(mapped.row), _ROW)
    rows["name"] = np.where(mapped.name > 0, mapped.name, np.uint64(known.stat.start_stack))
    rows["place"] = mapped.place
    for column in ("mapmax", "anon_pages", "unbound"):
        rows[column] = getattr(regions, column)[mapped.row]
    return rows


def _is_within(rows: Rows, who: Ints) -> Bools:
    """Say which rows nobody maps but those whose number ``who`` has; all of a place alike."""
    order = np.lexsort((who, rows["place"], rows["name"]))  # np.unique() of pairs takes ten times as long
    rows, who = rows[order], who[order]
    place = _begins(rows["name"]) | _begins(rows["place"])
    first = np.flatnonzero(place)
    mappers = np.add.reduceat(place | _begins(who), first, dtype=np.int64)
    mapmax = np.maximum.reduceat(rows["mapmax"], first)
    unbound = np.logical_and.reduceat(rows["unbound"], first)
    within = np.zeros(len(rows), bool)
    within[order] = ((mapmax <= mappers) & unbound)[np.cumsum(place) - 1] & (rows["name"] > 0)
    return within


def _begins(column: Ints | Addresses) -> Bools:
    """Say which are not as the one before."""
    begins = np.ones(len(column), bool)
    begins[1:] = column[1:] != column[:-1]
    return begins


def _note(known: Known, backing: Addresses, place: Addresses) -> None:
    """Keep what a process shares with its placement, if that is news."""
    assert known.placement is not None  # noqa: S101 - for the type checker
    regions, row = known.placement.regions, known.placement.mapped.row
    if (regions.backing[row] != backing.astype(np.int64)).any():
        columns = np.zeros((2, len(regions)), np.int64)
        columns[:, row] = np.stack([backing, np.where(backing > 0, place, np.uint64(0))])
        shared = replace(regions, backing=columns[0], offset=columns[1])
        known.placement = replace(known.placement, regions=shared)
