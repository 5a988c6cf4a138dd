# SPDX-License-Identifier: Apache-2.0

"""Ask the daemon that runs, through its control socket."""

import socket
from typing import Any, Final

import msgspec

from numad_py.daemon import control_socket
from numad_py.daemon.control import INTERFACE
from numad_py.mendable import Mendable

PATIENCE_S: Final = 30.0


class NoAnswer(Mendable):
    """The daemon is not there, or says no: why, in a sentence."""


def ask(method: str, **parameters: object) -> dict[str, Any]:
    """Call a method of the daemon, and give what it returns; raises NoAnswer."""
    path = control_socket.folder() / control_socket.NAME
    try:
        call = msgspec.json.encode({"method": f"{INTERFACE}.{method}", "parameters": parameters})
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(PATIENCE_S)
            daemon.connect(str(path))
            daemon.sendall(call + b"\0")
            answer = _received(daemon)
    except UnicodeEncodeError as error:
        raise NoAnswer(f"the daemon takes only what is UTF-8, and {error.object!r} is not") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoAnswer(f"the daemon is not running: nothing listens at {path}") from None
    except (TimeoutError, ConnectionError, BlockingIOError):  # EAGAIN: its backlog is full
        answer = b""
    if not answer:
        raise NoAnswer(
            f"the daemon that listens at {path} does not answer; it may have too many clients of yours"
        )
    return _returned(msgspec.json.decode(answer))


def _received(daemon: socket.socket) -> bytes:
    """Give the reply; nothing where the connection ends before that does."""
    parts = [daemon.recv(1 << 16)]
    while parts[-1] and not parts[-1].endswith(b"\0"):
        parts.append(daemon.recv(1 << 16))
    return b"".join(parts)[:-1] if parts[-1] else b""


def _returned(reply: dict[str, Any]) -> dict[str, Any]:
    returned: dict[str, Any] = reply.get("parameters", {})
    if "error" in reply:
        raise NoAnswer(returned.get("why") or f"the daemon says {reply['error']} {returned}")
    return returned
