# SPDX-License-Identifier: Apache-2.0

"""A file whose file system answers when a test wants it to, and not before.

A FUSE server for one regular file, spoken by hand over /dev/fuse. Whoever opens the
file read-only gets FOPEN_DIRECT_IO. Where such a one maps it, fuse_file_mmap() in
fs/fuse/file.c first calls invalidate_inode_pages2(), which writes a dirty page out and
waits for the server to take it, under the write side of that process's mmap lock.
A server that withholds its answer so holds the lock for as long as it likes.
"""

import ctypes
import os
import struct
import threading
from pathlib import Path

_MNT_DETACH = 2

# include/uapi/linux/fuse.h: opcodes and a flag
_FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 2, 3, 4, 14, 15, 16
_RELEASE, _FSYNC, _FLUSH, _INIT, _INTERRUPT, _BATCH_FORGET = 18, 20, 25, 26, 36, 42
_UNANSWERED = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_FOPEN_DIRECT_IO = 1 << 0
_VERSION = (7, 31)
_ENOSYS = 38

_IN_HEADER = struct.Struct("=IIQQIIII")
_OUT_HEADER = struct.Struct("=IiQ")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI7I")
_ATTR_OUT = struct.Struct("=QII6Q10I")
_OPEN_IN = struct.Struct("=I")
_OPEN_OUT = struct.Struct("=QII")
_WRITE_OUT = struct.Struct("=II")
_READ_IN = struct.Struct("=QQI")

_BYTES = 4096
_LARGEST_WRITE = 128 << 10
_REQUEST_BYTES = _LARGEST_WRITE + 4096

_libc = ctypes.CDLL(None, use_errno=True)


class FuseFile:
    """One page of zeroes at ``path``; what is written there is forgotten."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self._withheld: list[bytes] | None = None
        self._lock = threading.Lock()
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=100644,user_id=0,group_id=0"
        _check(_libc.mount(b"numad-test", bytes(path), b"fuse", ctypes.c_ulong(0), options.encode()))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert path.stat().st_size == _BYTES  # the kernel takes it for empty until it has asked

    def withhold(self) -> None:
        """Leave unanswered what is written, until ``release``."""
        with self._lock:
            self._withheld = []

    def release(self) -> None:
        """Answer what was withheld, and everything from now on."""
        with self._lock:
            withheld, self._withheld = self._withheld or [], None
            for answer in withheld:
                os.write(self._device, answer)

    @property
    def withholds(self) -> bool:
        """Whether somebody waits for an answer that is withheld."""
        with self._lock:
            return bool(self._withheld)

    def close(self) -> None:
        """Unmount. Whoever still has the file open must have ended before."""
        self.release()
        _check(_libc.umount2(bytes(self.path), _MNT_DETACH))
        self._thread.join(timeout=10)
        assert not self._thread.is_alive(), "somebody still has the file open"
        os.close(self._device)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, _REQUEST_BYTES)
            except OSError:  # ENODEV: unmounted
                return
            _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
            if opcode not in _UNANSWERED:
                self._answer(opcode, unique, request[_IN_HEADER.size :])

    def _answer(self, opcode: int, unique: int, body: bytes) -> None:
        error, out = _reply(opcode, body)
        answer = _OUT_HEADER.pack(_OUT_HEADER.size + len(out), -error, unique) + out
        with self._lock:
            if self._withheld is not None and opcode == _WRITE:
                self._withheld.append(answer)
            else:
                os.write(self._device, answer)


def _reply(opcode: int, body: bytes) -> tuple[int, bytes]:
    """Give errno and payload."""
    if opcode == _INIT:
        limits = (0, 0, _LARGEST_WRITE, 1, 0, 0, 0)
        return 0, _INIT_OUT.pack(*_VERSION, 0, 0, *limits, *[0] * 7)
    if opcode in (_GETATTR, _SETATTR):
        times = (0, 0, 0)
        mode_and_links = (0o100644, 1)
        return 0, _ATTR_OUT.pack(60, 0, 0, 1, _BYTES, 8, *times, *times, *mode_and_links, 0, 0, 0, _BYTES, 0)
    if opcode == _READ:
        _, offset, size = _READ_IN.unpack_from(body)
        return 0, bytes(max(min(size, _BYTES - offset), 0))
    if opcode == _WRITE:
        _, _, size = _READ_IN.unpack_from(body)
        return 0, _WRITE_OUT.pack(size, 0)
    if opcode == _OPEN:
        (flags,) = _OPEN_IN.unpack_from(body)
        return 0, _OPEN_OUT.pack(1, 0 if flags & os.O_RDWR else _FOPEN_DIRECT_IO, 0)
    return (0, b"") if opcode in (_RELEASE, _FSYNC, _FLUSH) else (_ENOSYS, b"")


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
