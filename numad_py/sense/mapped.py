# SPDX-License-Identifier: Apache-2.0

"""Name what a process's regions map, so that those of other processes that map the same can be found."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.kernel.maps import Maps
from numad_py.model import Regions
from numad_py.topology import Addresses, Ints

LEAST_BYTES: Final = 1 << 20  # resident: of less it is not worth to know who maps it


@dataclass(frozen=True, eq=False)
class Mapped:
    """The rows of a process's regions that other processes map too, but for programs and libraries.

    ``name`` is the file's, or 0 of anonymous memory, and ``place`` the offset in it, or the address.
    """

    row: Ints
    name: Addresses
    place: Addresses


def mapped(regions: Regions, vmas: Maps) -> Mapped:
    """Find them; a file of which any part may be executed is a program or a library."""
    row = np.flatnonzero(
        (regions.mapmax > 1) & (regions.pages.sum(axis=1) * regions.page_bytes >= LEAST_BYTES)
    )
    vma = vmas.start.searchsorted(regions.start[row])
    code = vmas.file[vma] & np.isin(vmas.name[vma], vmas.name[vmas.executable])
    row, vma = row[~code], vma[~code]
    place = np.where(vmas.file[vma], vmas.offset[vma], vmas.start[vma])
    return Mapped(row, vmas.name[vma], place)
