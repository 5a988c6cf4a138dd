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

Number = TypeVar("Number", np.int64, np.float64)


class Roll:
    """Who was there at the last look, and with which regions."""

    def __init__(self) -> None:
        self._keys: list[ProcessKey] = []
        self._regions: list[Regions] = []

    def call(self, processes: Sequence[Process]) -> tuple[Ints | None, list[int]]:
        """Give the row that each had, and the rows of those whose regions are new or others.

        Arrays by row have one row more, a stranger's: -1 is the row that strangers had, and that the last row keeps.
        None where everyone stays in place.
        """
        keys, had, rows = [each.key for each in processes], self._regions, None
        if keys != self._keys:
            last = {key: row for row, key in enumerate(self._keys)}
            row_of = [last.get(key, -1) for key in keys]
            rows = np.array([*row_of, -1], np.int64)
            had = [self._regions[row] if row >= 0 else _NONE for row in row_of]
        self._keys, self._regions = keys, [each.regions for each in processes]
        changed = [
            row for row, (now, then) in enumerate(zip(self._regions, had, strict=True)) if now is not then
        ]
        return rows, changed


_NONE = Regions.empty(0)


def columns(held: Sequence[Regions], *names: str) -> tuple[Any, ...]:
    """Put the regions of several processes one under the other: how many each has, and the named columns."""
    lengths = np.array([len(each) for each in held])
    return lengths, *(np.concatenate([getattr(each, name) for each in held]) for name in names)


def by_process(by_row: NDArray[Number], lengths: Ints, how: np.ufunc = np.add) -> NDArray[Number]:
    """Reduce as many rows as each process has to one; to 0 where it has none."""
    some = lengths > 0
    reduced = np.zeros((len(lengths), *by_row.shape[1:]), by_row.dtype)
    reduced[some] = how.reduceat(by_row, (lengths.cumsum() - lengths)[some], axis=0)
    return reduced
