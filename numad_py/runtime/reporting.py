# SPDX-License-Identifier: Apache-2.0

"""Tell the daemon how far this process came, so that it takes back moves that slowed it, and moves between its steps."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, SupportsFloat

DEFAULT: Final = "/run/numad-py/progress"
REST_S: Final = 0.5  # between two reports: the daemon looks less often than most jobs make steps
STEP_REST_S: Final = 0.25  # between two ends of steps, each of which it may wait for
AGAIN_S: Final = 0.01  # where somebody floods the daemon, after which the next word tries again

_next_s = 0.0
_steps = 0
_ended_s = 0.0  # the last of them


def progress(step: SupportsFloat) -> None:
    """Say how far this process came: any number that grows in step with its work, as often as you like.

    It is sent now and then, as one datagram, and nobody waits for anything, unless the number is a tensor on a GPU,
    which is read when the GPU comes to it. It never raises: without a daemon, or outside a job, nobody hears it.
    ``NUMAD_PROGRESS`` names another socket than the packaged daemon's.
    """
    if _is_time(REST_S):
        with suppress(
            Exception
        ):  # no number, or an array's library that will not tell it now: a RuntimeError
            _send(repr(float(step)))


@contextmanager
def one_step() -> Iterator[None]:
    """Take one step of the work as the body of a ``with``; pages move between two bodies rather than in one.

    It reports in place of ``progress``, as it does: every step counts one.
    """
    global _steps, _ended_s  # noqa: PLW0603 - a process makes one step at a time
    slack_s = time.monotonic() - _ended_s if _steps else 0.0
    yield
    _steps += 1
    _ended_s = time.monotonic()
    if _is_time(STEP_REST_S):
        _send(f"{_steps} {slack_s:.6f}")


def _is_time(rest_s: float) -> bool:
    """Say whether to report, and if so, not again before ``rest_s``."""
    global _next_s  # noqa: PLW0603 - a process has one clock, and this must cost nothing
    now_s = time.monotonic()
    if now_s < _next_s:
        return False
    _next_s = now_s + rest_s
    return True


def _send(word: str) -> None:
    global _next_s  # noqa: PLW0603 - as above
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
            said.sendto(word.encode(), socket.MSG_DONTWAIT, os.environ.get("NUMAD_PROGRESS", DEFAULT))
    except BlockingIOError:
        _next_s = time.monotonic() + AGAIN_S
    except OSError:  # nobody listens
        return
