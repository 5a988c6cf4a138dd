# SPDX-License-Identifier: Apache-2.0

"""The processes of look after look as rows of arrays: which row each had, and whose regions are others now.

Problem: most processes hold from one look to the next what they held before; at most a few are to be read again.
Primitive: rows are in the order of the look. While the same processes are there, arrays by row stay as they are.
Application: the oracle and the score keep what they know by row, and take it along with `Roll.call`.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numad_py.model import Process, ProcessKey, Regions
from numad_py.topology import Ints

Number = TypeVar("Number", np.int64, np.float64, np.bool_)


class Roll:
    """Who was there at the last look, and with which regions."""

    def __init__(self, remembered: int = 0) -> None:
        self._remembered = remembered
        self._keys: list[ProcessKey] = []
        self._regions: list[Regions] = []
        self._left: dict[ProcessKey, Regions] = {}

    def call(self, processes: Sequence[Process]) -> tuple[Ints | None, dict[int, Regions]]:
        """Give the row that each had; and of those whose regions are new or others, by row, what they had then.

        Arrays by row go on below with those that left last, as many as are remembered, and with one row that is a
        stranger's: -1 is the row that strangers had. None where everyone stays in place.
        """
        keys, had, rows = [each.key for each in processes], self._regions, None
        if keys != self._keys:
            rows, had = self._shift(keys)
        self._keys, self._regions = keys, [each.regions for each in processes]
        pairs = enumerate(zip(self._regions, had, strict=True))
        return rows, {row: then for row, (now, then) in pairs if now is not then}

    def _shift(self, keys: list[ProcessKey]) -> tuple[Ints, list[Regions]]:
        """Give the row that each of these, and of those that left, had, and the regions that these had."""
        known = dict(zip(self._keys, self._regions, strict=True)) | self._left
        row_of = {key: row for row, key in enumerate(known)}
        present = set(keys)
        left = [key for key in (*self._left, *self._keys) if key not in present]
        left = left[max(len(left) - self._remembered, 0) :]
        self._left = {key: known[key] for key in left}
        rows = np.array([*(row_of.get(key, -1) for key in (*keys, *left)), -1], np.int64)
        return rows, [known.get(key, _NONE) for key in keys]


_NONE = Regions.empty(0)


def columns(held: Sequence[Regions], *names: str) -> tuple[Any, ...]:
    """Put the regions of several processes one under the other: how many each has, and the named columns."""
    lengths = np.array([len(each) for each in held])
    return lengths, *(np.concatenate([getattr(each, name) for each in held]) for name in names)


def by_process(by_row: NDArray[Number], lengths: Ints, how: np.ufunc = np.add) -> NDArray[Number]:
    """Reduce as many rows as each process has to one; to zeros where it has none."""
    some = lengths > 0
    reduced = np.zeros((len(lengths), *by_row.shape[1:]), by_row.dtype)
    reduced[some] = how.reduceat(by_row, (lengths.cumsum() - lengths)[some], axis=0)
    return reduced
