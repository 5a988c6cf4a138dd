# SPDX-License-Identifier: Apache-2.0

"""Answer GET /metrics on a socket, to one client at a time."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

PATIENCE_S: Final = 5.0  # with one client, from its connection to its end
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def serve(listening: socket.socket, text: Callable[[], bytes]) -> None:
    """Answer in a thread of its own until the process ends."""
    threading.Thread(target=_serve, args=(listening, text), name="numad-metrics", daemon=True).start()


def _serve(listening: socket.socket, text: Callable[[], bytes]) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # no descriptor is left, or the client has gone
            time.sleep(1)
            continue
        with connection:
            answer(connection, text)


def answer(connection: socket.socket, text: Callable[[], bytes], patience_s: float = PATIENCE_S) -> None:
    """Answer one request, and no longer than that; a timeout for each byte would hold up all others for hours."""
    late = threading.Timer(patience_s, partial(_cut, connection))
    late.start()
    try:
        with contextlib.suppress(OSError):  # the client has gone
            _Answer(text, connection)
    finally:
        late.cancel()


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is over
        connection.shutdown(socket.SHUT_RDWR)


class _Answer(BaseHTTPRequestHandler):
    """Knows one path and one method."""

    server_version = "numad-py"
    sys_version = ""

    def __init__(self, text: Callable[[], bytes], connection: socket.socket) -> None:
        self._text = text
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type] # no server is asked for anything

    def do_GET(self) -> None:
        """Give the metrics."""
        text = self._text()
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "Try /metrics")
            return
        if not text:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "The first turn has not ended")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a scrape is no news."""
