# SPDX-License-Identifier: Apache-2.0

"""Wait in real seconds, until a signal ends it."""

import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from numad_py.roles import Clock


class LiveClock(Clock):
    """Ticks at a steady period; a turn that took too long is not caught up."""

    # Not threading.Event, whose lock the main thread may hold when the signal comes: set() would wait for ever.
    # SimpleQueue.put() is documented as safe in signal handlers.

    def __init__(self) -> None:
        self._stopped = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._due_s = time.monotonic()

    def stop(self) -> None:
        """Let ``wait`` return False from now on, at once; safe in a signal handler."""
        self._stopped = True
        self._wake.put(None)

    def wait(self, period_s: float) -> bool:
        now_s = time.monotonic()
        self._due_s = max(self._due_s, now_s)
        if not self._stopped:
            with suppress(Empty):
                self._wake.get(timeout=self._due_s - now_s)
        self._due_s += period_s
        return not self._stopped
