# SPDX-License-Identifier: Apache-2.0

"""The memory of little jobs: where it comes from, and what holds it there."""

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

_MPOL_BIND = 2  # include/uapi/linux/mempolicy.h
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
_MAP_HUGETLB = 0x40000  # include/uapi/asm-generic/mman-common.h
_ADVICE = {"4k": mmap.MADV_NOHUGEPAGE, "huge": mmap.MADV_HUGEPAGE}
PAGES = (*_ADVICE, "half-huge", "default", "hugetlb")
_BASE_PAGE_BYTES = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def cpus_of(node: int) -> set[int]:
    """Read the CPUs of a node."""
    text = Path(f"/sys/devices/system/node/node{node}/cpulist").read_text().strip()
    ends = (part.partition("-") for part in text.split(",") if part)
    return {cpu for first, _, last in ends for cpu in range(int(first), int(last or first) + 1)}


def run_on(node: int) -> None:
    """Bind this process to the CPUs of a node."""
    os.sched_setaffinity(0, cpus_of(node))


def bind_memory(node: int, flags: int = 0) -> None:
    """Let this thread allocate on one node only."""
    mask = ctypes.c_ulong(1 << node)
    # long set_mempolicy(int mode, const unsigned long *nodemask, unsigned long maxnode);
    _check(
        _libc.syscall(
            ctypes.c_long(_SET_MEMPOLICY[os.uname().machine]),
            ctypes.c_int(_MPOL_BIND | flags),
            ctypes.byref(mask),
            ctypes.c_ulong(8 * ctypes.sizeof(mask)),
        )
    )


def allocate(mb: int, pages: str) -> mmap.mmap:
    """Allocate and touch private anonymous memory; ``pages`` is as --pages takes it."""
    kind = _MAP_HUGETLB if pages == "hugetlb" else 0
    memory = mmap.mmap(-1, mb << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | kind)
    if pages in _ADVICE:
        memory.madvise(_ADVICE[pages])
    if pages == "half-huge":
        memory.madvise(_ADVICE["4k"], 0, len(memory) // 2)
        memory.madvise(_ADVICE["huge"], len(memory) // 2, len(memory) // 2)
    touch(memory)
    return memory


def touch(memory: mmap.mmap) -> None:
    """Write one byte of every page."""
    memory[::_BASE_PAGE_BYTES] = b"\1" * (len(memory) // _BASE_PAGE_BYTES)


def address_of(memory: mmap.mmap) -> int:
    """Give the first address."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def pin(start: int, pages: Iterable[int]) -> tuple[int, int]:
    """Hold pages by vmsplice into a pipe that nobody reads; they stay pinned while it is open."""
    pipe = os.pipe()
    for page in pages:
        part = _Iovec(start + page * _BASE_PAGE_BYTES, 1)
        # ssize_t vmsplice(int fd, const struct iovec *iov, size_t nr_segs, unsigned int flags);
        _check(_libc.vmsplice(pipe[1], ctypes.byref(part), ctypes.c_size_t(1), ctypes.c_uint(0)))
    return pipe


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
