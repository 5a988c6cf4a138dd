# SPDX-License-Identifier: Apache-2.0

"""Read the ring buffer that a sampling event writes its records into.

Problem: samples arrive by the thousand, and one Python object for each would
cost more than what they tell.
Primitive: all samples of one event have the same fields, so that their bytes
are an array of structures as they lie.
Application: what is in the ring is copied out in one piece, or two where it
wraps, and viewed as such an array; the few records of another kind (lost,
throttled) are taken out on the way.
"""

import mmap
import struct
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import Malformed
from numad_py.kernel.perf_events import Field

__all__ = ["Malformed", "Records", "Ring", "parse", "record_type"]

Bytes = NDArray[np.uint8]
Samples = NDArray[np.void]

# enum perf_event_type in include/uapi/linux/perf_event.h
_LOST: Final = 2
_THROTTLE: Final = 5
_SAMPLE: Final = 9
_LOST_SAMPLES: Final = 13

_HEADER: Final = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
_LOST_COUNT_AT: Final = {_LOST: 16, _LOST_SAMPLES: 8}

# struct perf_event_mmap_page: data_head, data_tail, data_offset, data_size are at 1024.
_CONTROL_AT: Final = 1024
_HEAD, _TAIL, _OFFSET, _SIZE = range(4)

# The order of a sample's bytes, which is not the order of the bits: see PERF_RECORD_SAMPLE in the same header.
_LAYOUT: Final[tuple[tuple[Field, tuple[tuple[str, str], ...]], ...]] = (
    (Field.IDENTIFIER, (("identifier", "<u8"),)),
    (Field.IP, (("ip", "<u8"),)),
    (Field.TID, (("pid", "<i4"), ("tid", "<i4"))),
    (Field.TIME, (("time_ns", "<u8"),)),
    (Field.ADDR, (("address", "<u8"),)),
    (Field.ID, (("id", "<u8"),)),
    (Field.STREAM_ID, (("stream_id", "<u8"),)),
    (Field.CPU, (("cpu", "<i4"), ("reserved", "<i4"))),
    (Field.PERIOD, (("period", "<u8"),)),
    (Field.RAW, (("raw_bytes", "<u4"), ("raw", "u1"))),
    (Field.WEIGHT, (("weight", "<u8"),)),
    (Field.DATA_SRC, (("data_src", "<u8"),)),
    (Field.PHYS_ADDR, (("physical_address", "<u8"),)),
    (Field.DATA_PAGE_SIZE, (("page_bytes", "<u8"),)),
)
_AT_ONCE: Final = 1024  # records looked at before an odd one among them is taken out: keeps the cost linear


@dataclass(frozen=True, eq=False)
class Records:
    """What was in a ring: the samples, how many the kernel lost, and how often it throttled the event."""

    samples: Samples
    lost: int
    throttled: int


def record_type(fields: Field, *, raw_bytes: int = 0) -> np.dtype[np.void]:
    """Give the type of a sample's fields, header included.

    ``raw_bytes`` is how much of the raw part is wanted; it may be longer, so no field may follow it. Raises
    ValueError for fields that have no fixed place.
    """
    known = [(field, parts) for field, parts in _LAYOUT if field in fields]
    unknown = fields & ~Field(sum(field for field, _ in known))
    if unknown or (Field.RAW in fields and known[-1][0] != Field.RAW):
        raise ValueError(f"samples with {fields!r} have fields without a fixed place")
    columns: list[tuple[str, str] | tuple[str, str, tuple[int]]] = [
        ("type", "<u4"),
        ("misc", "<u2"),
        ("size", "<u2"),
    ]
    for _, parts in known:
        columns += [(name, kind, (raw_bytes,)) if name == "raw" else (name, kind) for name, kind in parts]
    return np.dtype(columns)


def parse(data: Bytes, kind: np.dtype[np.void]) -> Records:
    """Give the records that some bytes hold; Malformed where they are not whole records."""
    runs: list[Samples] = []
    lost = throttled = at = 0
    while at < len(data):
        type_, size = _header_at(data, at)
        if type_ == _SAMPLE:
            runs.append(_samples_at(data, at, size, kind))
        if type_ in _LOST_COUNT_AT:
            lost += _lost_at(data, at, type_, size)
        throttled += type_ == _THROTTLE
        at += size * (len(runs[-1]) if type_ == _SAMPLE else 1)
    return Records(np.concatenate(runs) if runs else np.zeros(0, kind), lost, throttled)


def _samples_at(data: Bytes, at: int, size: int, kind: np.dtype[np.void]) -> Samples:
    """Give the samples of one size that lie side by side from there on, the first included."""
    if size < kind.itemsize:
        raise Malformed(f"perf record: a sample of {size} bytes, not {kind.itemsize}")
    count = min((len(data) - at) // size, _AT_ONCE)
    wide = data[at : at + count * size].reshape(count, size)
    rows = np.ascontiguousarray(wide[:, : kind.itemsize]).view(kind)[:, 0]
    odd = (rows["type"] != _SAMPLE) | (rows["size"] != size)
    return rows[: int(odd.argmax())] if odd.any() else rows


def _header_at(data: Bytes, at: int) -> tuple[int, int]:
    if len(data) - at < _HEADER.size:
        raise Malformed(f"perf record: {len(data) - at} bytes at the end")
    type_, _, size = _HEADER.unpack(data[at : at + _HEADER.size].tobytes())
    if size < _HEADER.size or at + size > len(data):
        raise Malformed(f"perf record: type {type_} of {size} bytes, {len(data) - at} left")
    return type_, size


def _lost_at(data: Bytes, at: int, type_: int, size: int) -> int:
    offset = _LOST_COUNT_AT[type_]
    if size < offset + 8:
        raise Malformed(f"perf record: type {type_} of {size} bytes")
    return int(data[at + offset : at + offset + 8].view("<u8")[0])


class Ring:
    """The mapped ring of one event; ``pages`` of data, a power of two, and one page of control."""

    def __init__(self, event: int, pages: int) -> None:
        self._map = mmap.mmap(event, (1 + pages) * mmap.PAGESIZE)
        self._control = np.frombuffer(self._map, np.uint64, 4, _CONTROL_AT)
        size, offset = int(self._control[_SIZE]), int(self._control[_OFFSET])
        self._data = np.frombuffer(self._map, np.uint8, size, offset)
        self._fence = threading.Lock()

    def drain(self) -> Bytes:
        """Take out the bytes of all whole records, and make their place free."""
        head, tail = int(self._control[_HEAD]), int(self._control[_TAIL])
        if head == tail:
            return self._data[:0]
        self._order()
        size = len(self._data)
        first, length = tail % size, head - tail
        taken = self._data[first : first + length].copy()
        if len(taken) < length:
            taken = np.concatenate([taken, self._data[: length - len(taken)]])
        self._order()
        self._control[_TAIL] = head
        return taken

    def _order(self) -> None:
        """Let no access of memory pass this point.

        perf_output_put_handle() in kernel/events/ring_buffer.c asks its reader for such a barrier between
        data_head and the data, and between the data and data_tail. A lock let go and taken again is one:
        a release followed by an acquire.
        """
        with self._fence:
            pass
        with self._fence:
            pass

    def close(self) -> None:
        """Unmap it. Safe to call twice."""
        self._control, self._data = np.zeros(4, np.uint64), np.zeros(0, np.uint8)  # a map in use stays mapped
        self._map.close()
