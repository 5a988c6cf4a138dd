# SPDX-License-Identifier: Apache-2.0

"""Listen for clients of the daemon, none of whom can harm it.

Problem: every user of the machine may connect, and say anything, as fast as he can, or nothing.
Primitive: a thread of its own, one request of a connection at a time, and a bound on everything that a
client can make us keep: the length of a message, how long it may take, what is not read of a reply.
Application: a user has few connections and rests after each request in proportion to what it cost, so that
root, who has neither limit, is always answered, and the loop is not slowed.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec
import structlog
from asyncvarlink import VarlinkErrorReply, VarlinkInterfaceRegistry, VarlinkMethodCall, VarlinkMethodReply
from asyncvarlink.conversion import ConversionError
from asyncvarlink.serviceinterface import InvalidParameter

from numad_py.daemon import activation
from numad_py.mendable import Mendable
from numad_py.sense.opt_in import ROOT

NAME: Final = "control"
DEFAULT: Final = Path("/run/numad-py")

MESSAGE_BYTES: Final = 16 << 10
PATIENCE_S: Final = 30.0  # for a whole message to come, and for a reply to be taken
USERS_CONNECTIONS: Final = 64  # of all users but root
CONNECTIONS: Final = 4  # of one user
ROOTS_CONNECTIONS: Final = 32
REST_S: Final = 0.1  # at least, after a user's request
REST_PER_COST: Final = 20  # and so much of what answering it cost
BACKLOG: Final = 64
PAUSE_S: Final = 1.0  # where no client can be accepted
ACCEPT_REST_S: Final = (
    0.05  # after as many have been accepted: else who connects without end would keep us busy
)


class AnotherDaemon(Mendable):
    """Another daemon runs: two would move each other's pages back and forth."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another daemon runs: it holds {folder / 'lock'}; see numad-py status")


def folder() -> Path:
    """Give the folder that systemd made for us (RuntimeDirectory=), else the packaged one."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", str(DEFAULT)).partition(":")[0])


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only daemon of this folder; raises AnotherDaemon. The kernel lets go of it when we end, however that is."""
    if not folder.exists():
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask: users enter it
    with open(folder / "lock", "ab", opener=_private) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherDaemon(folder) from None
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)  # else any user could hold it


def listening(folder: Path) -> socket.socket:
    """Give the socket that systemd listens at for us, else one of our own; whoever calls this is ``alone``."""
    if inherited := activation.sockets(NAME):
        return inherited[0]
    path = folder / NAME
    path.unlink(missing_ok=True)  # of a daemon that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o666)  # who may do what is decided by SO_PEERCRED
    listener.listen(BACKLOG)
    return listener


def peer_uid(connection: socket.socket) -> int:
    """Give the effective uid that the other side had when it connected; see SO_PEERCRED in unix(7)."""
    # include/linux/socket.h: struct ucred { __u32 pid; __u32 uid; __u32 gid; };
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3I"))
    return int(struct.unpack("3I", credentials)[1])


class Garbage(ValueError):
    """What came is not a varlink call."""


async def answer(registry: VarlinkInterfaceRegistry, message: bytes) -> bytes | None:
    """Answer one message; None where none is wanted. Raises Garbage."""
    try:
        call = VarlinkMethodCall.fromjson(msgspec.json.decode(message))
    except (ValueError, TypeError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise Garbage(str(error)) from None
    try:
        reply = await _called(registry, call)
    except VarlinkErrorReply as error:
        reply = error.toreply()
    return None if call.oneway else msgspec.json.encode(reply.tojson()) + b"\0"


async def _called(registry: VarlinkInterfaceRegistry, call: VarlinkMethodCall) -> VarlinkMethodReply:
    method, signature = registry.lookup_method(call)
    try:
        parameters = signature.parameter_type.fromjson(call.parameters)
    except ConversionError as error:
        raise InvalidParameter(parameter=str((error.location or [""])[0])) from None
    returned = method(**parameters)
    told = await returned if signature.asynchronous else returned
    return VarlinkMethodReply(signature.return_type.tojson(told.parameters))


class Server:
    """Answers clients in a thread of its own, between ``with`` and its end.

    ``registry_of`` gives what a client of that uid may call.
    """

    def __init__(
        self,
        listener: socket.socket,
        registry_of: Callable[[int], VarlinkInterfaceRegistry],
        *,
        uid_of: Callable[[socket.socket], int] = peer_uid,
    ) -> None:
        self._listener = listener
        self._registry_of = registry_of
        self._uid_of = uid_of
        self._connections: Counter[int] = Counter()  # by uid
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="control")

    def __enter__(self) -> Self:
        self._listener.settimeout(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        accepting = asyncio.create_task(self._accept())
        await self._stopped.wait()
        tasks = (accepting, *self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                first, _ = await self._loop.sock_accept(self._listener)
                users = [self._admit(connection) for connection in (first, *self._waiting())]
            except OSError as error:  # no descriptor is left, or no memory
                structlog.get_logger().warning("control", why=str(error))
                await asyncio.sleep(PAUSE_S)
            else:
                await asyncio.sleep(ACCEPT_REST_S if any(users) else 0)

    def _waiting(self) -> Iterator[socket.socket]:
        """Give who else waits to be accepted: root is among them soon, however many users are."""
        with contextlib.suppress(OSError):  # EAGAIN: there is nobody
            for _ in range(BACKLOG):
                yield self._listener.accept()[0]

    def _admit(self, connection: socket.socket) -> bool:
        """Begin to talk, or refuse to; say whether it is a user's."""
        uid = self._uid_of(connection)
        if self._has_room(uid):
            connection.settimeout(0)
            self._begin(connection, uid)
        else:
            connection.close()
        return uid != ROOT

    def _has_room(self, uid: int) -> bool:
        if uid == ROOT:
            return self._connections[ROOT] < ROOTS_CONNECTIONS
        users = self._connections.total() - self._connections[ROOT]
        return users < USERS_CONNECTIONS and self._connections[uid] < CONNECTIONS

    def _begin(self, connection: socket.socket, uid: int) -> None:
        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._connections[uid] -= 1
            if not task.cancelled() and (error := task.exception()):
                structlog.get_logger().error("control", uid=uid, why=repr(error))

        self._connections[uid] += 1
        task = self._loop.create_task(self._converse(connection, uid))
        self._tasks.add(task)
        task.add_done_callback(end)

    async def _converse(self, connection: socket.socket, uid: int) -> None:
        """Answer one client until it goes, is too slow, or says what is no message."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=MESSAGE_BYTES)
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() waits until all is taken
        registry = self._registry_of(uid)
        try:
            while True:
                async with asyncio.timeout(PATIENCE_S):
                    message = await reader.readuntil(b"\0")
                began_s = time.thread_time()
                reply = await answer(registry, message[:-1])
                rest_s = max(REST_S, REST_PER_COST * (time.thread_time() - began_s))
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(reply or b"")
                    await writer.drain()
                if uid != ROOT:
                    await asyncio.sleep(rest_s)
        except (
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            TimeoutError,
            ConnectionError,
            Garbage,
        ):
            pass
        finally:
            writer.transport.abort()
