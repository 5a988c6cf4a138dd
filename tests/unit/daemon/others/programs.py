# SPDX-License-Identifier: Apache-2.0

"""Programs that are asked at a socket, each connection in a thread of its own, as systemd would start them."""

import json
import socket
import threading
from contextlib import contextmanager


class Listening:
    """A socket at which ``program`` runs for whoever connects; ``told`` is every line that it read."""

    def __init__(self, path, program):
        self.path, self.program, self.told, self.connected = path, program, [], 0
        self.ended = threading.Semaphore(0)  # released by each whose input came to its end
        self._open = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connected += 1
            self._open.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            with connection, connection.makefile("rwb", buffering=0) as stdio:
                self.program(self, stdio)
        except OSError:  # we ended before it did
            return

    def lines(self, stdio):
        """Give each line that it reads, as a value."""
        for line in stdio:
            self.told.append(json.loads(line))
            yield self.told[-1]
        self.ended.release()

    def close(self):
        """End all of it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()


@contextmanager
def listening(path, program):
    """Let a program be asked there meanwhile."""
    listens = Listening(path, program)
    try:
        yield listens
    finally:
        listens.close()


def wishing(*wishes, **words):
    """Give a program that answers every tick with these wishes."""

    def program(self, stdio):
        for told in self.lines(stdio):
            if told["type"] == "tick":
                answer = {"number": told["number"], "moves": wishes} | words
                stdio.write(json.dumps(answer).encode() + b"\n")

    return program


def saying(line):
    """Give a program that says the same to whatever it reads."""

    def program(self, stdio):
        for _ in self.lines(stdio):
            stdio.write(line)

    return program


def silent(self, stdio):
    """Read, and say nothing."""
    for _ in self.lines(stdio):
        pass
