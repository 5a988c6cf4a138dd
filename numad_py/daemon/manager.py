# SPDX-License-Identifier: Apache-2.0

"""Tell the service manager how the daemon is: ready, alive, reading its configuration anew, at its end."""

import contextlib
import os
import time
from typing import Final

import structlog

try:
    from systemd.daemon import notify
except ImportError:  # the extra `systemd` is not installed
    notify = None

TURNS: Final = 3  # that may pass before the watchdog bites


class Manager:
    """Speaks sd_notify(3) where a manager listens, and to nobody elsewhere."""

    def __init__(self, period_s: float) -> None:
        self._listens = "NOTIFY_SOCKET" in os.environ
        if self._listens and notify is None:
            structlog.get_logger().warning(
                "manager not told", why="systemd-python is missing: pip install 'numad-py[systemd]'"
            )
        self._watchdog_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
        self._fed_s = float("-inf")
        self.lengthen(period_s)

    def lengthen(self, period_s: float) -> None:
        """Ask for a watchdog that waits for three turns at the least."""
        if self._watchdog_s and self._watchdog_s < TURNS * period_s:
            self._watchdog_s = TURNS * period_s
            self._tell(f"WATCHDOG_USEC={int(self._watchdog_s * 1e6)}")

    def ready(self) -> None:
        """Say that it runs, with the configuration that it has now."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Say that it reads its configuration anew; ``ready`` says when that is done."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that it ends."""
        self._tell("STOPPING=1")

    def turned(self, status: str) -> None:
        """Feed the watchdog, since the loop has turned; seldom enough to cost nothing."""
        now_s = time.monotonic()
        if now_s - self._fed_s >= self._watchdog_s / 4:
            self._fed_s = now_s
            self._tell(f"WATCHDOG=1\nSTATUS={status}" if self._watchdog_s else f"STATUS={status}")

    def _tell(self, words: str) -> None:
        if self._listens and notify is not None:
            with contextlib.suppress(
                OSError
            ):  # a manager that does not listen now is asked again at the next turn
                notify(words)
