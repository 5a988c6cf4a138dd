# SPDX-License-Identifier: Apache-2.0

"""Listen for jobs that say how far they came: datagrams from anybody, each a number.

Problem: every process of the machine may send, as fast as it can, and nobody may wait for us or wear us down.
Primitive: the kernel says who sent (SCM_CREDENTIALS) and keeps no more than a few datagrams, of all senders together;
progress adds up, so that a lost one changes nothing but when it is heard.
Application: a thread of its own takes one after the other, and rests after each. So who floods us costs no more than
that, but keeps most words of others from coming through, which try again. To take more in a round does not help: room
is filled as fast as it is made, whatever is made for 5 % of a core.
"""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NAME: Final = "progress"
WORD_BYTES: Final = 64
REST_S: Final = 0.002  # after each: a word takes 75 to 195 us, so one who floods us costs some 3 % of a core
WAIT_S: Final = 0.5  # for the next, before the end is looked for
# include/linux/socket.h: struct ucred { __u32 pid; __u32 uid; __u32 gid; };
_CREDENTIALS: Final = struct.Struct("3I")


@contextmanager
def heard(folder: Path, hear: Callable[[int, bytes, float], None]) -> Iterator[None]:
    """Call ``hear`` with PID, word and time of each report to ``folder``/progress meanwhile, in another thread."""
    ended = threading.Event()
    with _listening(folder / NAME) as listener:
        thread = threading.Thread(target=_run, args=(listener, hear, ended), name=NAME)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # of a daemon that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    listener.bind(str(path))
    path.chmod(0o666)  # whom it is from is said by the kernel
    return listener


def _run(listener: socket.socket, hear: Callable[[int, bytes, float], None], ended: threading.Event) -> None:
    while not ended.is_set():
        if not select.select([listener], [], [], WAIT_S)[0]:
            continue
        # There is room for the credentials and for nothing else: descriptors that somebody sends are closed by
        # the kernel (scm_recv() in include/net/scm.h writes the credentials first).
        word, told, _, _ = listener.recvmsg(WORD_BYTES, socket.CMSG_LEN(_CREDENTIALS.size))
        for level, kind, data in told:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                hear(_CREDENTIALS.unpack(data)[0], word, time.monotonic())
        ended.wait(REST_S)
