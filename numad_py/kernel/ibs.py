# SPDX-License-Identifier: Apache-2.0

"""Decode what AMD's IBS op sampling puts into the raw part of a sample. Never seen live."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import Malformed

__all__ = ["LEAST_BYTES", "Accessed", "Malformed", "decode"]

Bools = NDArray[np.bool_]

# perf_ibs_handle_irq() in arch/x86/events/amd/ibs.c: the capabilities, then the registers from
# MSR_AMD64_IBSOPCTL on: control, RIP, data, data 2, data 3, linear and physical address; some CPUs add more.
_DATA_2, _DATA_3, _LINEAR = 3, 4, 5
_REGISTERS: Final = 7
LEAST_BYTES: Final = 4 + 8 * _REGISTERS

# union ibs_op_data3 and ibs_op_data2 in arch/x86/include/asm/amd/ibs.h
_LOAD, _STORE, _SOFTWARE_PREFETCH, _LINEAR_VALID = 1 << 0, 1 << 1, 1 << 21, 1 << 17
_NO_MAB: Final = 1 << 16
_REMOTE_NODE: Final = 1 << 4
_SOURCE_LOW: Final = 0x7
_SOURCE_HIGH: Final = 0xC0  # bits 6 and 7 are the source's bits 3 and 4, 0 before Zen 4
_DRAM: Final = 3  # IBS_DATA_SRC_DRAM and IBS_DATA_SRC_EXT_DRAM


@dataclass(frozen=True, eq=False)
class Accessed:
    """By sample: whether it is an access with a valid ``address``, a store, and from which memory it was served.

    ``dram`` and ``remote`` are told of loads only. ``remote`` is another node's DRAM.
    """

    address: NDArray[np.uint64]
    accessed: Bools
    store: Bools
    dram: Bools
    remote: Bools


def decode(raw: NDArray[np.uint8]) -> Accessed:
    """Decode raw parts, one a row; Malformed for rows too short for the registers that all CPUs have."""
    if raw.ndim != 2 or raw.shape[1] < LEAST_BYTES:  # noqa: PLR2004 - rows and columns
        raise Malformed(f"IBS: raw parts of the shape {raw.shape}")
    registers = np.ascontiguousarray(raw[:, 4:LEAST_BYTES]).view("<u8").reshape(-1, _REGISTERS)
    data_2, data_3 = registers[:, _DATA_2], registers[:, _DATA_3]
    load, store = (data_3 & _LOAD) != 0, (data_3 & _STORE) != 0
    source = data_2 & _SOURCE_LOW | (data_2 & _SOURCE_HIGH) >> 3
    # Erratum 1293: of prefetches and of misses without a MAB, Zen 3 tells a source that is not so.
    told = load & ((data_3 & (_SOFTWARE_PREFETCH | _NO_MAB)) == 0)
    dram = told & (source == _DRAM)
    valid = (load | store) & ((data_3 & _LINEAR_VALID) != 0)
    return Accessed(registers[:, _LINEAR], valid, store, dram, dram & ((data_2 & _REMOTE_NODE) != 0))
