# SPDX-License-Identifier: Apache-2.0

"""Wait in real seconds, until a signal ends it."""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from numad_py.roles import Clock


class LiveClock(Clock):
    """Ticks at a steady period; a turn that took too long is not caught up."""

    # Not threading.Event, whose lock the main thread may hold when the signal comes: set() would wait for ever.
    # SimpleQueue.put() is documented as safe in signal handlers.

    def __init__(self) -> None:
        self._stopped = False
        self._wake: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._due_s = time.monotonic()

    def stop(self) -> None:
        """Let ``wait`` return False from now on, at once; safe in a signal handler."""
        self._stopped = True
        self.wake()

    def wake(self) -> None:
        """Let the ``wait`` under way, or the next, return at once; safe in a signal handler."""
        self._wake.put(None)

    def meanwhile(self, do: Callable[[], None]) -> None:
        """Have the loop's thread do something short between two turns, which come no sooner for it; from any thread."""
        self._wake.put(do)

    def wait(self, period_s: float) -> bool:
        self._due_s = max(self._due_s, time.monotonic())
        while not self._stopped:
            try:
                asked = self._wake.get(timeout=max(self._due_s - time.monotonic(), 0))
            except Empty:
                break
            if asked is None:
                self._due_s = time.monotonic()  # woken before it was due
                break
            asked()
        self._due_s += period_s
        return not self._stopped
