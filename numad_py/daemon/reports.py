# SPDX-License-Identifier: Apache-2.0

"""Listen for jobs that say how far they came: datagrams from anybody, each a number.

Problem: every process of the machine may send, as fast as it can, and nobody may wait for us or wear us down; and
ranks that end their steps together all send at once.
Primitive: the kernel says who sent (SCM_CREDENTIALS) and keeps no more than some datagrams, of all senders together:
net.unix.max_dgram_qlen, as it was where the socket was opened, 512 for systemd, 10 in a network namespace of our own.
Progress adds up, so that a lost one changes nothing but when it is heard.
Application: a thread of its own takes all that wait, and rests where that takes more than 3 % of a core. So a burst is
heard at once, and who floods us costs no more than that, but keeps most words of others from coming through, which try
again. To take more in a round does not help these: room is filled as fast as it is made.
"""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from numad_py.daemon import activation

NAME: Final = "progress"
WORD_BYTES: Final = 64
ROUND: Final = 256  # words at most, of 10 to 120 us each
RESTS: Final = 32.0  # times the CPU time that a round took
AHEAD_S: Final = 1.0  # of rest may be owed where little was heard before, so that a burst passes
WAIT_S: Final = 0.5  # for the next, before the end is looked for
# include/linux/socket.h: struct ucred { __u32 pid; __u32 uid; __u32 gid; };
_CREDENTIALS: Final = struct.Struct("3I")


@contextmanager
def heard(folder: Path, hear: Callable[[int, bytes, float], None]) -> Iterator[None]:
    """Call ``hear`` with PID, word and time of each report to ``folder``/progress meanwhile, in another thread."""
    ended = threading.Event()
    with _listening(folder / NAME) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        thread = threading.Thread(target=_run, args=(listener, hear, ended), name=NAME)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _listening(path: Path) -> socket.socket:
    """Give the socket that systemd listens at for us, else one of our own."""
    if inherited := activation.sockets(NAME):
        return inherited[0]
    path.unlink(missing_ok=True)  # of a daemon that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    path.chmod(0o666)  # whom it is from is said by the kernel
    return listener


def _run(listener: socket.socket, hear: Callable[[int, bytes, float], None], ended: threading.Event) -> None:
    used_s = rest_s = 0.0
    even_s = 0.0  # when all rest will be made up for
    while not ended.wait(rest_s):
        if select.select([listener], [], [], WAIT_S)[0]:
            with suppress(BlockingIOError):
                for _ in range(ROUND):
                    _take(listener, hear)
        before_s, used_s, now_s = used_s, time.thread_time(), time.monotonic()
        even_s = max(even_s, now_s - AHEAD_S) + RESTS * (used_s - before_s)
        rest_s = max(even_s - now_s, 0.0)


def _take(listener: socket.socket, hear: Callable[[int, bytes, float], None]) -> None:
    # There is room for the credentials and for nothing else: descriptors that somebody sends are closed by
    # the kernel (scm_recv() in include/net/scm.h writes the credentials first).
    room = socket.CMSG_LEN(_CREDENTIALS.size)
    word, told, _, _ = listener.recvmsg(WORD_BYTES, room, socket.MSG_DONTWAIT)
    for level, kind, data in told:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            hear(_CREDENTIALS.unpack(data)[0], word, time.monotonic())
