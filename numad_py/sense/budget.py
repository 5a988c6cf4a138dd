# SPDX-License-Identifier: Apache-2.0

"""Keep what looking costs within a share of one core, whatever there is to look at.

Problem: what a look costs depends on how many processes, threads and regions there
are, and on how often they change; a daemon at rest must not be felt.
Primitive: an account that fills with a share of every second and holds a minute's worth,
so that a storm may be met at once and is paid for afterwards. At the start it holds more, once.
Application: what recurs is stretched until it takes its part of the share; the rest is done
most urgent first for as long as the account lasts.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FULL_S = 60.0  # of the share that the account holds
START_S = 300.0  # of it that a start may take, when all there is has to be read for the first time
ALWAYS_S = 1e-6  # which lets one thing be done, the most urgent: else a small budget would be a blindfold
LONGEST_LOOK_S = 0.1  # of CPU time that one look may take out of it


class Budget:
    """CPU seconds that looks, and what follows them in a turn, may take. Times are given, so that it can be tried without waiting."""

    def __init__(self, core_share: float) -> None:
        self._core_share = core_share
        self._balance_s = core_share * START_S
        self._filled_s: float | None = None
        self._paid: deque[tuple[float, float]] = deque()

    def fill(self, now_s: float) -> None:
        """Let time pass; called as a look begins."""
        since_s = 0.0 if self._filled_s is None else now_s - self._filled_s
        self._filled_s = now_s
        full_s = max(self._core_share * FULL_S, self._balance_s)
        self._balance_s = min(self._balance_s + self._core_share * since_s, full_s)

    def left_s(self, spent_s: float) -> float:
        """Give what this look may still take, having taken so much."""
        return max(min(self._balance_s, LONGEST_LOOK_S) - spent_s, ALWAYS_S)

    def pay(self, now_s: float, cost_s: float) -> None:
        """Book what was taken."""
        self._balance_s -= cost_s
        self._paid.append((now_s, cost_s))
        while self._paid[0][0] <= now_s - FULL_S:
            self._paid.popleft()

    def spent_share(self, now_s: float) -> float:
        """Give the share of a core that was paid in the last minute."""
        began_s = self._paid[0][0] if self._paid else now_s
        return sum(cost_s for _, cost_s in self._paid) / max(now_s - began_s, 1.0)


class Recurring:
    """Something done at every look while it is cheap, and less often when it is dear."""

    def __init__(self, core_share: float) -> None:
        self._core_share = core_share
        self._next_s = float("-inf")

    def act(self, now_s: float, act: Callable[[], T]) -> T | None:
        """Do it, if it is its turn; what it cost says when it is due again."""
        if now_s < self._next_s:
            return None
        began_s = time.process_time()
        done = act()
        self._next_s = now_s + (time.process_time() - began_s) / self._core_share
        return done
