# SPDX-License-Identifier: Apache-2.0

"""Talk with a policy of others over a socket, and never wait longer than told.

Problem: the other side may be slow, silent, endless, or gone, in the middle of a line too.
Primitive: the lines of a trace go one way, the header first; an answer names the tick that it is for.
Application: what is sent and received goes on where it was in the turn after, so that a late answer ends nothing and
is known to be late; no tick is begun before the last one was taken whole, so that nothing queues.
"""

import select
import socket
import time
from dataclasses import replace
from typing import Final, Self

from numad_py.daemon.others import answer
from numad_py.daemon.others.answer import Answer, Refused
from numad_py.model import Plan, Snapshot, Tick
from numad_py.trace import Header
from numad_py.trace.header import line_of
from numad_py.trace.ticks import Encoder

LINE_BYTES: Final = 1 << 20  # of an answer
_ENDED: Final = "it ended"
_PIECE_BYTES: Final = 1 << 16


class Conversation:
    """One connection, from its header to its end.

    ``keyframe_every`` says which lines are whole; others tell of regions what changed in them.
    """

    def __init__(self, connection: socket.socket, header: Header, *, keyframe_every: int) -> None:
        connection.settimeout(0)
        self.topology = header.topology
        self._connection = connection
        header = replace(header, keyframe_every=keyframe_every)
        self._encoder = Encoder(header)
        self._unsent = memoryview(line_of(header))
        self._received = bytearray()
        self._asked = -1
        self._before: Tick | None = None

    @classmethod
    def at(cls, path: str, header: Header, *, keyframe_every: int) -> Self:
        """Begin one at a Unix socket; raises OSError."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(0)
            connection.connect(path)
            return cls(connection, header, keyframe_every=keyframe_every)
        except OSError as error:
            connection.close()
            error.filename = path
            raise

    def decide(self, snapshot: Snapshot, until_s: float) -> Plan:
        """Give what it wishes of this snapshot.

        Raises Refused for what cannot be wished, TimeoutError where nothing came until then, by the monotonic clock,
        and ConnectionError where nothing will.
        """
        self._send(until_s)  # what is left of the tick before
        self._unsent = memoryview(self._encoder.line(self._told(snapshot)))
        self._asked += 1
        self._send(until_s)
        while (found := self._answer(until_s)).number != self._asked:
            if found.number > self._asked:
                raise Refused(f"it answers tick {found.number}, and the last one was {self._asked}")
        return answer.plan_of(found, snapshot)

    def review(self, tick: Tick) -> None:
        """Keep what came of the last plan, which the next line tells."""
        self._before = tick

    def close(self) -> None:
        """End it; the other side finds its input at an end."""
        self._connection.close()

    def _told(self, snapshot: Snapshot) -> Tick:
        before = self._before
        if before is None:
            return Tick(snapshot, Plan(), ())
        return replace(before, snapshot=snapshot)

    def _send(self, until_s: float) -> None:
        while self._unsent:
            self._go_on(until_s)

    def _answer(self, until_s: float) -> Answer:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > LINE_BYTES:
                raise ConnectionError(f"it wrote a line of more than {LINE_BYTES >> 20} MiB")
            self._go_on(until_s)
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return answer.decoded(line)

    def _go_on(self, until_s: float) -> None:
        """Wait until the other side takes or gives something, and let it."""
        poll = select.poll()
        reading = select.POLLIN if len(self._received) <= LINE_BYTES else 0
        poll.register(self._connection, reading | (select.POLLOUT if self._unsent else 0))
        left_s = until_s - time.monotonic()
        ready = poll.poll(left_s * 1e3) if left_s > 0 else []
        if not ready:
            raise TimeoutError("it did not answer in time")
        try:
            self._exchange(ready[0][1])
        except (BrokenPipeError, ConnectionResetError):
            raise ConnectionError(_ENDED) from None

    def _exchange(self, events: int) -> None:
        if events & select.POLLOUT:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        if events & ~select.POLLOUT:
            piece = self._connection.recv(_PIECE_BYTES)
            if not piece:
                raise ConnectionError(_ENDED)
            self._received += piece
