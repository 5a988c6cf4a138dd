# SPDX-License-Identifier: Apache-2.0

"""Which ranges of addresses share some, as columns."""

import numpy as np

from numad_py.topology import Addresses, Ints


def overlaps(
    a_start: Addresses, a_end: Addresses, b_start: Addresses, b_end: Addresses
) -> tuple[Ints, Ints, Ints]:
    """Give every pair of overlapping ranges and the bytes they share: (rows of a, rows of b, bytes).

    Both sides must be ascending and free of overlaps among themselves.
    """
    first = np.searchsorted(b_end, a_start, side="right")
    pairs = np.maximum(np.searchsorted(b_start, a_end, side="left") - first, 0)
    a = np.repeat(np.arange(len(a_start)), pairs)
    b = np.arange(len(a)) - np.repeat(pairs.cumsum() - pairs - first, pairs)
    shared = np.minimum(a_end[a], b_end[b]) - np.maximum(a_start[a], b_start[b])
    return a, b, shared.astype(np.int64)
