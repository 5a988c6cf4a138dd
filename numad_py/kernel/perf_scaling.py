# SPDX-License-Identifier: Apache-2.0

"""Scale the counts of events that took turns on the CPU's counters.

Problem: a CPU has four to eight counters; when more are wanted, the kernel lets
the events take turns, and each count is of a part of the time only.

Primitive: with every count comes for how long it was wanted (enabled) and for
how long it was really counted (running); a rate that holds for the one holds
for the other.

Application: value * enabled / running by row, and rows that never got a counter
are taken to be like the others.
"""

from typing import Final

import numpy as np

from numad_py.topology import Floats, Ints

# What read(2) gives of a group with PERF_FORMAT_GROUP and both times: nr, time enabled, time running, values.
ENABLED: Final = 1
RUNNING: Final = 2
VALUES: Final = 3


def scaled(change: Ints) -> Floats | None:
    """Give the sum of each event over all rows, as if it had been counted all the time.

    ``change`` has a row for each CPU or thread. None where something ran and was never counted.
    """
    enabled, running = change[:, ENABLED].astype(np.float64), change[:, RUNNING]
    counted = running > 0
    if not counted.any():
        return None if enabled.any() else np.zeros(change.shape[1] - VALUES)
    turns = enabled[counted] / running[counted]
    missed = enabled.sum() / enabled[counted].sum()
    total: Floats = turns @ change[counted, VALUES:] * missed
    return total
