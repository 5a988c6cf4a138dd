# SPDX-License-Identifier: Apache-2.0

"""Mark page frames idle, and see which were accessed since: /sys/kernel/mm/page_idle/bitmap.

One bit for each frame; what is written as 1 is marked, what is written as 0 is left as it is, and what is read as
1 was not accessed since (Documentation/admin-guide/mm/idle_page_tracking.rst). Only LRU pages are tracked, and of a
huge page only its first frame (``page_idle_get_folio()`` in mm/page_idle.c): all others read as 0, accessed or not.
"""

import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel.placement import Addresses

__all__ = ["BITMAP", "frames", "idle", "mark"]

BITMAP: Final = "sys/kernel/mm/page_idle/bitmap"

_PRESENT: Final = 1 << 63  # of an entry of /proc/PID/pagemap; the frame is in the bits below 55
_FRAME: Final = (1 << 55) - 1
_LRU: Final = 1 << 5  # of an entry of /proc/kpageflags, include/uapi/linux/kernel-page-flags.h
_TAIL: Final = 1 << 16
_ENTRY_BYTES: Final = 8
_BITS: Final = np.uint64(64)


def frames(
    pid: int, addresses: Addresses, *, page_bytes: int, huge_bytes: int, root: Path = Path("/")
) -> Addresses:
    """Give the frame by which the page at each address is tracked; 0 where there is none.

    For a page within a huge one that is its first frame. Raises PermissionError where frames are not shown, which
    takes CAP_SYS_ADMIN, and ProcessLookupError or FileNotFoundError where the process is gone.
    """
    entries = _read(root / f"proc/{pid}/pagemap", addresses // np.uint64(page_bytes))
    frame = np.where(entries & np.uint64(_PRESENT), entries & np.uint64(_FRAME), np.uint64(0))
    if len(entries) and (entries & np.uint64(_PRESENT)).any() and not frame.any():
        # Since Linux commit ab676b7d6fbf ("pagemap: do not leak physical addresses to non-privileged userspace") (in v4.0).
        raise PermissionError("frame numbers are hidden: CAP_SYS_ADMIN is needed")
    flags = _read(root / "proc/kpageflags", frame)
    in_huge = (flags & np.uint64(_TAIL)) != 0
    per_huge = np.uint64(max(huge_bytes // page_bytes, 1))
    frame = np.where(in_huge, frame // per_huge * per_huge, frame)
    tracked = (_read(root / "proc/kpageflags", frame) & np.uint64(_LRU)) != 0
    return np.where(tracked, frame, np.uint64(0))


def mark(frame: Addresses, root: Path = Path("/")) -> None:
    """Mark these frames idle."""
    words, row = np.unique(frame // _BITS, return_inverse=True)
    bits = np.zeros(len(words), np.uint64)
    np.bitwise_or.at(bits, row, np.uint64(1) << frame % _BITS)
    file = os.open(root / BITMAP, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for word, value in zip(words.tolist(), bits, strict=True):
            os.pwrite(file, value.tobytes(), word * _ENTRY_BYTES)
    finally:
        os.close(file)


def idle(frame: Addresses, root: Path = Path("/")) -> NDArray[np.bool_]:
    """Say of each frame whether it was not accessed since it was marked."""
    words = _read(root / BITMAP, frame // _BITS)
    still: NDArray[np.bool_] = (words >> frame % _BITS & np.uint64(1)) != 0
    return still


def _read(path: Path, index: Addresses) -> Addresses:
    """Read entries of 8 bytes, in the machine's own order; 0 for those behind the end."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = [os.pread(file, _ENTRY_BYTES, at * _ENTRY_BYTES) for at in index.tolist()]
    finally:
        os.close(file)
    return np.frombuffer(b"".join(entry.ljust(_ENTRY_BYTES, b"\0") for entry in entries), np.uint64)
