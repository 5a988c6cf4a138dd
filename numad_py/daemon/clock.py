# SPDX-License-Identifier: Apache-2.0

"""Wait in real seconds, until a signal ends it."""

import threading
import time

from numad_py.roles import Clock


class LiveClock(Clock):
    """Ticks at a steady period; a turn that took too long is not caught up."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._due_s = time.monotonic()

    def stop(self) -> None:
        """Let ``wait`` return False from now on; safe in a signal handler."""
        self._stop.set()

    def wait(self, period_s: float) -> bool:
        stopped = self._stop.wait(max(self._due_s - time.monotonic(), 0.0))
        self._due_s = max(self._due_s + period_s, time.monotonic())
        return not stopped
