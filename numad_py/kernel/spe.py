# SPDX-License-Identifier: Apache-2.0

"""Decode what Arm's Statistical Profiling Extension writes into the AUX area. Never seen live.

Problem: packets have one to ten bytes, so that where one begins is known only when the one before has been
looked at, and one Python step for each would cost a microsecond.
Primitive: a packet's length follows from its first two bytes alone.
Application: for every byte, where the next packet would begin if one began there; from byte 0 on, the
packets are found by doubling, a step, two steps, four steps at a time; all else is columns.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]
Places = NDArray[np.int64]

# Arm ARM (DDI 0487) chapter D17, as tools/perf/util/arm-spe-decoder/arm-spe-pkt-decoder.h names it: header, and
# the bits of it that tell the kind. Bits 4 and 5 of all but the first two are the payload's size.
_PAD, _END, _TIMESTAMP = 0x00, 0x01, 0x71
_KINDS: Final = ((0x42, 0xCF), (0x43, 0xCF), (0x64, 0xFC), (0x48, 0xFC), (0xB0, 0xF8), (0x98, 0xF8))
_EVENTS, _SOURCE, _CONTEXT, _OPERATION = (kind for kind, _ in _KINDS[:4])
_EXTENDED, _EXTENDED_BITS = 0x20, 0xFC
_LOAD_OR_STORE: Final = 0x49  # the class is in the lowest two bits
_VIRTUAL, _PHYSICAL = 0xB2, 0xB3  # the index is in the lowest three
_ADDRESS_BITS: Final = (
    1 << 56
) - 1  # the top byte is a tag of a virtual address, and flags of a physical one
_STORE: Final = 1 << 0
_LLC_MISS, _REMOTE_ACCESS = 1 << 9, 1 << 10
_LONGEST: Final = 10


def _lengths() -> NDArray[np.int64]:
    """Give a packet's length by its header of one byte; 0 where there is no such header."""
    table = np.zeros(256, np.int64)
    for header in range(256):
        if header == _TIMESTAMP or any(header & bits == kind for kind, bits in _KINDS):
            table[header] = 1 + (1 << (header >> 4 & 3))
    table[[_PAD, _END]] = 1
    return table


_LENGTH: Final = _lengths()


@dataclass(frozen=True, eq=False)
class Operations:
    """Sampled operations as columns; 0 where an address, time, or context was not told, -1 for a source.

    ``remote`` is memory or a cache of another socket; ``source`` is a number that each CPU has its own
    meaning for. ``broken`` bytes belong to no packet.
    """

    virtual: Words
    physical: Words
    load: Bools
    store: Bools
    remote: Bools
    llc_miss: Bools
    source: Places
    context: Words
    timestamp: Words
    broken: int


def decode(data: Bytes) -> Operations:
    """Decode whole records; ``data`` begins where a packet does, at an address that is a multiple of 16."""
    padded = np.concatenate([data, np.zeros(_LONGEST, np.uint8)])
    at, broken = _packets(padded, len(data))
    header, payload = padded[at], _payloads(padded, at)
    ends = (header == _END) | (header == _TIMESTAMP)
    record = np.cumsum(ends) - ends  # which one each packet is of
    count = int(ends.sum())

    def column(chosen: Bools, values: Words, none: int = 0) -> Words:
        of = np.full(count + 1, none, np.int64).astype(
            np.uint64
        )  # the last is of the record that was cut off
        of[record[chosen]] = values[chosen]
        return of[:count]

    operation = column(header == _LOAD_OR_STORE, payload + np.uint64(1))
    events = column(header & 0xCF == _EVENTS, payload)
    return Operations(
        virtual=column(header == _VIRTUAL, payload & np.uint64(_ADDRESS_BITS)),
        physical=column(header == _PHYSICAL, payload & np.uint64(_ADDRESS_BITS)),
        load=(operation > 0) & ((operation - np.uint64(1)) & _STORE == 0),
        store=(operation > 0) & ((operation - np.uint64(1)) & _STORE != 0),
        remote=(events & _REMOTE_ACCESS) != 0,
        llc_miss=(events & _LLC_MISS) != 0,
        source=column(header & 0xCF == _SOURCE, payload, -1).astype(np.int64),
        context=column(header & _EXTENDED_BITS == _CONTEXT, payload),
        timestamp=column(header == _TIMESTAMP, payload),
        broken=broken,
    )


def _packets(padded: Bytes, length: int) -> tuple[Places, int]:
    """Give where the whole packets begin, and how many bytes belong to none."""
    places = np.arange(length)
    size = _sizes(padded, places)
    ahead = np.append(np.minimum(places + np.maximum(size, 1), length), length)
    found = np.zeros(1, np.int64)
    while found[-1] < length:
        found = np.concatenate([found, ahead[found]])
        ahead = ahead[ahead]
    found = np.unique(found[found < length])
    whole = (size[found] > 0) & (found + size[found] <= length)
    return found[whole], int(np.count_nonzero(size[found] == 0))


def _sizes(padded: Bytes, places: Places) -> Places:
    """Give the length of the packet that would begin at each place; 0 where none can."""
    first, second = padded[places], padded[places + 1]
    extended = first & _EXTENDED_BITS == _EXTENDED
    inner = np.isin(second & 0xF8, (0xB0, 0x98))
    alignment = np.int64(2) << (first & 0xF).astype(np.int64)
    to_alignment = alignment - (places & (alignment - 1))
    wide = np.where(second == 0, to_alignment, np.where(inner, 1 + _LENGTH[second], 0))
    return np.where(extended, wide, _LENGTH[first])


def _payloads(padded: Bytes, at: Places) -> Words:
    """Give the payload of each packet, whose header is one byte; longer ones hold nothing wanted here."""
    size = np.maximum(_LENGTH[padded[at]] - 1, 0)
    eight = padded[at[:, None] + np.arange(1, 9)]
    eight[np.arange(8) >= size[:, None]] = 0
    payload: Words = np.ascontiguousarray(eight).view("<u8")[:, 0]
    return payload
