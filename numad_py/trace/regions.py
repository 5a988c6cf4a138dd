# SPDX-License-Identifier: Apache-2.0

"""Regions whole, and as what changed since the last ones.

Problem: a process's hundreds of VMAs rarely change, and writing them all at
every tick would fill a disk. Primitive: rows are matched by start address. A
row of which only page counts differ is recounted; any other difference is one
row gone and one new. Application: ``changes`` when writing, ``changed`` when
reading; both touch columns only, never one row alone.
"""

import numpy as np
from numpy.typing import NDArray

from numad_py.model import REGION_COLUMNS, Regions
from numad_py.topology import Ints
from numad_py.trace import wire
from numad_py.trace.wire import Damage

# Reading keeps a process's columns in one table, a row for each and one for each node's pages.
_PAGES = len(REGION_COLUMNS) - 1
_DESCRIBING = ("end", "page_bytes", "kind", "mempolicy", "mapmax", "backing", "offset")
_SHARING = ("backing", "offset")  # left out where no row shares anything


def to_wire(regions: Regions) -> wire.Regions:
    """Give every row."""
    left_out = () if regions.backing.any() else _SHARING
    named = (name for name in REGION_COLUMNS[:-1] if name not in left_out)
    columns = {name: getattr(regions, name).tolist() for name in named}
    return wire.Regions(**columns, pages=regions.pages.T.tolist())


def changes(old: Regions, new: Regions) -> wire.Changes | None:
    """Give what leads from the old rows to the new ones; None where nothing does."""
    if new is old:
        return None
    at, same = _matches(old, new)
    fresh = None if same.all() else to_wire(new.take(~same))
    rows = np.flatnonzero(same)
    gone = np.delete(np.arange(len(old)), at[rows]).tolist()
    recount = _recount(old, at[rows], new, rows)
    return wire.Changes(gone, recount, fresh) if gone or recount or fresh else None


def table_of(read: wire.Regions, nodes: int) -> Ints:
    """Give every row as a column of one table; raises Damage where they cannot be VMAs."""
    return _ascending(_whole(read, nodes))


def changed(old: Ints, read: wire.Changes) -> Ints:
    """Give the table that the changes lead to; raises Damage where they do not fit the old one."""
    now = old if read.recount is None else _recounted(old, read.recount)
    if read.gone:
        kept = np.ones(old.shape[1], bool)
        kept[_rows(read.gone, old)] = False
        now = now[:, kept]
    if read.new is None:
        return now
    both = np.concatenate((now, _whole(read.new, len(old) - _PAGES)), axis=1)
    return _ascending(both[:, np.argsort(both[0], kind="stable")])


def regions_of(table: Ints) -> Regions:
    """Give the table's rows as read-only views."""
    table.setflags(write=False)
    start, end = table[:2].view(np.uint64)
    counted = dict(zip(REGION_COLUMNS[2:_PAGES], table[2:_PAGES], strict=True))
    return Regions(start, end, **counted, pages=table[_PAGES:].T)


def _recount(old: Regions, old_rows: Ints, new: Regions, new_rows: Ints) -> wire.Recount | None:
    anon_pages, pages = new.anon_pages[new_rows], new.pages[new_rows]
    differs = (old.pages[old_rows] != pages).any(axis=1) | (old.anon_pages[old_rows] != anon_pages)
    if not differs.any():
        return None
    return wire.Recount(old_rows[differs].tolist(), anon_pages[differs].tolist(), pages[differs].T.tolist())


def _matches(old: Regions, new: Regions) -> tuple[Ints, NDArray[np.bool_]]:
    """Give the old row for each new one, and whether it is the same but for its page counts."""
    if not len(old):
        return np.zeros(len(new), np.int64), np.zeros(len(new), bool)
    at = np.minimum(np.searchsorted(old.start, new.start), len(old) - 1)
    same = old.start[at] == new.start
    for name in _DESCRIBING:
        same &= getattr(old, name)[at] == getattr(new, name)
    return at, same


def _whole(read: wire.Regions, nodes: int) -> Ints:
    columns = [getattr(read, name) for name in REGION_COLUMNS[:_PAGES]]
    for index in map(REGION_COLUMNS.index, _SHARING):
        columns[index] = columns[index] or [0] * len(read.start)
    return _table(columns, read.pages, len(read.start), nodes)


def _recounted(old: Ints, read: wire.Recount) -> Ints:
    rows = _rows(read.row, old)
    now = old.copy()
    now[_PAGES - 1 :, rows] = _table([read.anon_pages], read.pages, len(rows), len(old) - _PAGES)
    return now


def _rows(rows: list[int], table: Ints) -> Ints:
    if rows and max(rows) >= table.shape[1]:
        raise Damage(f"row {max(rows)} of a process that had {table.shape[1]} regions")
    return np.array(rows, np.int64)


def _table(columns: list[wire.Column], pages: list[wire.Column], length: int, nodes: int) -> Ints:
    if len(pages) != nodes:
        raise Damage(f"pages of {len(pages)} nodes on a machine with {nodes}")
    names = [*REGION_COLUMNS[_PAGES - len(columns) : _PAGES], *["pages"] * nodes]
    for name, column in zip(names, [*columns, *pages], strict=True):
        wire.check_length(column, length, name)
    return np.array([*columns, *pages], np.int64)


def _ascending(table: Ints) -> Ints:
    start, end = table[0], table[1]
    if (start[1:] <= start[:-1]).any() or (end < start).any():
        raise Damage("regions do not ascend")
    return table
