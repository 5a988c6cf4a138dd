# SPDX-License-Identifier: Apache-2.0

"""Make system calls that neither Python nor glibc wraps."""

import ctypes
import os
import platform
from collections.abc import Mapping
from typing import Any, Final

# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {
        "mbind": 237,
        "migrate_pages": 256,
        "move_pages": 279,
        "perf_event_open": 298,
        "set_mempolicy": 238,
    },
    "aarch64": {
        "mbind": 235,
        "migrate_pages": 238,
        "move_pages": 239,
        "perf_event_open": 241,
        "set_mempolicy": 237,
    },
}

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def call(name: str, *args: Any) -> int:
    """Return what the system call returned, or raise the OSError it set.

    Every integer must come wrapped in the C type of its parameter: syscall(2)
    is variadic, and ctypes would pass a bare int as 32 bits. The interpreter's
    lock is released meanwhile.
    """
    try:
        number = NUMBERS[platform.machine()][name]
    except KeyError:
        raise NotImplementedError(f"{name}() on {platform.machine()}") from None
    result: int = _syscall(ctypes.c_long(number), *args)
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result
