# SPDX-License-Identifier: Apache-2.0

"""Ask the kernel where pages are. Changes nothing."""

import errno
import fcntl
import struct
from ctypes import c_int, c_ulong, c_void_p
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel._call import call

Addresses = NDArray[np.uint64]
Status = NDArray[np.int32]


def door(array: NDArray[np.generic], dtype: type[np.generic], length: int) -> c_void_p:
    """Give the address of an array's buffer, refusing what the kernel would misread.

    A strided view would pass wrong addresses without a word, so its shape,
    type and contiguity are checked here. Raises ValueError.
    """
    if array.dtype != dtype or array.shape != (length,) or not array.flags.c_contiguous:
        raise ValueError(
            f"the kernel takes {length} contiguous {np.dtype(dtype)}, not {array.dtype} {array.shape}"
        )
    return c_void_p(array.ctypes.data)


def nodes_of(pid: int, addresses: Addresses) -> Status:
    """Give, per address, the node its page is on, or a negative errno.

    ``-EFAULT``: the zero page, or nothing mapped. ``-ENOENT``: no page there, for
    which 6.1 says ``-EFAULT`` in anonymous memory, and 6.12 does not.
    Raises ProcessLookupError when the process is gone, PermissionError without
    CAP_SYS_PTRACE over it. See move_pages(2).
    """
    status = np.full(len(addresses), -errno.ENOENT, np.int32)
    # long move_pages(int pid, unsigned long count, void **pages,
    #                 const int *nodes, int *status, int flags);
    call(
        "move_pages",
        c_int(pid),
        c_ulong(len(addresses)),
        door(addresses, np.uint64, len(addresses)),
        c_void_p(None),
        door(status, np.int32, len(addresses)),
        c_int(0),
    )
    return status


PAGE_IS_PRESENT: Final = 1 << 3  # include/uapi/linux/fs.h
PAGE_IS_HUGE: Final = 1 << 6

_PM_SCAN_ARG: Final = struct.Struct("=12Q")  # struct pm_scan_arg
_PAGEMAP_SCAN: Final = 3 << 30 | _PM_SCAN_ARG.size << 16 | ord("f") << 8 | 16  # _IOWR('f', 16, ...)
_REGION: Final = np.dtype([("start", np.uint64), ("end", np.uint64), ("categories", np.uint64)])


def scan(pagemap: int, start: int, end: int, *, most: int = 4096) -> tuple[NDArray[np.void], int]:
    """Give the ranges of present pages between two addresses, and where the scan stopped.

    The ranges have the fields start, end, categories, ascending; at most ``most``
    of them. ``pagemap`` is an open /proc/PID/pagemap. Raises OSError with ENOTTY
    on kernels that have no PAGEMAP_SCAN.
    """
    # Since Linux commit 52526ca7fdb9 ("fs/proc/task_mmu: implement IOCTL to get and
    # optionally clear info about PTEs") (in v6.7); it works on another process.
    found = np.zeros(most, _REGION)
    kinds = PAGE_IS_PRESENT | PAGE_IS_HUGE
    arg = bytearray(
        _PM_SCAN_ARG.pack(
            _PM_SCAN_ARG.size, 0, start, end, 0, found.ctypes.data, most, 0, 0, PAGE_IS_PRESENT, 0, kinds
        )
    )
    count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, arg)
    return found[:count], _PM_SCAN_ARG.unpack(arg)[4]
