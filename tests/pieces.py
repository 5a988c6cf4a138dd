# SPDX-License-Identifier: Apache-2.0

"""Pieces of work for other processes, which must be able to import them."""

import os
import signal
from pathlib import Path

from numad_py.trace import TraceError


def squared(piece, tell):
    """Do a piece, and tell that it is ten units large."""
    tell(10)
    return piece**2, os.getpid()


def refused(piece, tell):
    """Find a trace damaged."""
    raise TraceError(Path("a.jsonl"), 7, "JSON is malformed", "record again")


def killed(piece, tell):
    """Be killed, as by a machine that is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
