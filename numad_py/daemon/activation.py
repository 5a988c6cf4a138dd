# SPDX-License-Identifier: Apache-2.0

"""Find the sockets that systemd opened for the daemon, which has no network and opens none itself."""

import os
import socket
from typing import Final

FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def sockets(name: str) -> list[socket.socket]:
    """Give those of that name, which is FileDescriptorName= in the socket's unit."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return [
        socket.socket(fileno=number) for number, each in enumerate(names, FIRST_DESCRIPTOR) if each == name
    ]
