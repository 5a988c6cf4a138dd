# SPDX-License-Identifier: Apache-2.0

"""Measure what memory costs on this machine, from each node to each, with memory and threads of our own.

Needs numba, which nothing else of this package may import.
"""

from numad_py.mendable import Mendable


class CannotCalibrate(Mendable):
    """Figures of this machine would be none; one sentence says why."""
