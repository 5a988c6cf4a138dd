# SPDX-License-Identifier: Apache-2.0

"""Ticks to lines of JSON and back: the recording, the audit log and the simulator's input in one."""

from numad_py.trace.anonymise import Anonymiser
from numad_py.trace.files import RingWriter, Writer, files_of, ring_segments
from numad_py.trace.header import Header
from numad_py.trace.reader import Gap, Passed, TraceError, read
from numad_py.trace.ticks import AnotherTopology

__all__ = [
    "Anonymiser",
    "AnotherTopology",
    "Gap",
    "Header",
    "Passed",
    "RingWriter",
    "TraceError",
    "Writer",
    "files_of",
    "read",
    "ring_segments",
]
