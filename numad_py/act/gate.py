# SPDX-License-Identifier: Apache-2.0

"""Whether the machine may be changed, and who says that it may not."""

import threading


class Gate:
    """Open for as long as nobody speaks against acting; closed and opened in any thread, at once.

    Several may close it, each for a reason of its own, and each opens only what it closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed: dict[str, str] = {}

    @property
    def is_open(self) -> bool:
        """Whether nobody speaks against acting."""
        return not self._closed

    @property
    def closed_by(self) -> dict[str, str]:
        """Give who speaks against acting, and why."""
        with self._lock:
            return dict(self._closed)

    def close(self, who: str, why: str) -> None:
        """Speak against acting; what is under way ends before its next call."""
        with self._lock:
            self._closed[who] = why

    def open(self, who: str) -> None:
        """Take back what one has said."""
        with self._lock:
            self._closed.pop(who, None)
