# SPDX-License-Identifier: Apache-2.0

"""When the calls of one move are made: before its deadline, and between the steps of a process that tells them.

Problem: a call that falls into a step makes it longer; but pages have to arrive.
Primitive: the slack behind the end of a step, heard as it happens; else a share of the time.
Application: calls wait for slack that is long enough for what a batch is cut to. What has not fitted into that of
``PATIENCE_PERIODS`` steps, or what no slack is long enough for, is spread: so that every step becomes a little longer,
and none a lot.
"""

import threading
from collections.abc import Callable
from typing import Final

from numad_py.act.batch_size import TARGET_S
from numad_py.rhythm import Rhythm

PATIENCE_PERIODS: Final = 16
SPREAD_SHARE: Final = 0.1  # of the time that is not slack
LOOK_S: Final = 0.005  # between two questions whether the step has ended


class Pace:
    """Tells the workers of one move when its next call may be made; ``since_s`` is when its pages were first wanted."""

    def __init__(
        self, deadline_s: float, rhythm: Callable[[], Rhythm | None] = lambda: None, since_s: float = 0.0
    ) -> None:
        self.deadline_s = deadline_s
        self._rhythm = rhythm
        self._since_s = since_s
        self._lock = threading.Lock()
        self._spread_s = since_s  # no sooner is the next call that is not in slack
        self._in_slack = self._spread = 0  # calls, while there was a rhythm
        self._waited = False

    def rest_s(self, now_s: float, last_call_s: float) -> float:
        """Give how long the next call has to wait; if 0, it counts as made."""
        rhythm = self._rhythm()
        if rhythm is None or rhythm.is_over(now_s):
            return 0.0
        with self._lock:
            if rhythm.has_slack(now_s, TARGET_S):
                self._in_slack += 1
                return 0.0
            patient_s = self._since_s + PATIENCE_PERIODS * rhythm.period_s
            if now_s < patient_s and rhythm.slack_s >= TARGET_S:
                self._waited = True
                return max(rhythm.next_s - now_s, LOOK_S)
            if now_s < self._spread_s:
                return self._spread_s - now_s
            self._spread_s = now_s + last_call_s / SPREAD_SHARE
            self._spread += 1
            return 0.0

    @property
    def told(self) -> str:
        """What came of waiting."""
        if calls := self._in_slack + self._spread:
            return f"{self._in_slack} of {calls} batches between steps"
        return "no step ended in time" if self._waited else ""
