# SPDX-License-Identifier: Apache-2.0

"""Tell from a sample's data source (PERF_SAMPLE_DATA_SRC) whose memory served it. Never seen live."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

# union perf_mem_data_src in include/uapi/linux/perf_event.h. Kernels tell memory in one of two ways: mem_lvl, which is
# older, and mem_lvl_num with mem_remote; since 4.16 in both.
_LEVEL_SHIFT: Final = 5
_HIT: Final = 0x2 << _LEVEL_SHIFT
_LOCAL_DRAM: Final = 0x80 << _LEVEL_SHIFT
_REMOTE_DRAM: Final = (0x100 | 0x200) << _LEVEL_SHIFT  # one hop, two hops
_LEVEL_NUMBER_SHIFT: Final = 33
_DRAM_NUMBER: Final = 0xD
_REMOTE: Final = 1 << 37


@dataclass(frozen=True, eq=False)
class Memory:
    """By sample: served from this node's DRAM, from another's; neither for caches and where it is not told."""

    local: Bools
    remote: Bools


def decode(data_src: NDArray[np.uint64]) -> Memory:
    """Decode a column of data sources."""
    hit = (data_src & _HIT) != 0
    numbered = (data_src >> _LEVEL_NUMBER_SHIFT & 0xF) == _DRAM_NUMBER
    far = (data_src & _REMOTE) != 0
    remote = hit & ((data_src & _REMOTE_DRAM) != 0) | numbered & far
    local = hit & ((data_src & _LOCAL_DRAM) != 0) | numbered & ~far
    return Memory(local & ~remote, remote)
