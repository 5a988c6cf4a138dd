# SPDX-License-Identifier: Apache-2.0

"""How long a process is left alone: after a move, after failures, and longer each time."""

from dataclasses import dataclass, replace

from numad_py.guard.limits import LONGEST_WAIT_S, PING_PONG_COOLDOWNS, Limits, doubled
from numad_py.model import Wait


@dataclass(frozen=True)
class Patience:
    """Makes waits as the limits say."""

    limits: Limits

    def until_s(self, wait: Wait) -> float:
        """Say until when something is waited for."""
        return max(wait.quiet_until_s, self.cool_s(wait))

    def cool_s(self, wait: Wait) -> float:
        """Say until when what was moved is not moved elsewhere."""
        cooldown_s = min(doubled(self.limits.cooldown_s, wait.reversals), LONGEST_WAIT_S)
        return wait.moved_s + cooldown_s if wait.targets else 0.0

    def learn(
        self,
        wait: Wait,
        targets: tuple[int, ...],
        now_s: float,
        *,
        moved: bool,
        failed: bool,
        turned: bool,
    ) -> Wait:
        """Say what is waited for after a move to these nodes, which may have ``turned`` from where it went before."""
        if moved:
            wait = self._learn_target(wait, targets, now_s, turned=turned)
        if failed:
            wait_s = min(doubled(self.limits.backoff_s, wait.failures), LONGEST_WAIT_S)
            return replace(wait, failures=wait.failures + 1, quiet_until_s=now_s + wait_s)
        return replace(wait, failures=0 if moved else wait.failures)

    def _learn_target(self, wait: Wait, targets: tuple[int, ...], now_s: float, *, turned: bool) -> Wait:
        """Note where it went; a turn elsewhere soon after the last makes the next wait twice as long."""
        soon = now_s < wait.moved_s + doubled(PING_PONG_COOLDOWNS * self.limits.cooldown_s, wait.reversals)
        reversals = wait.reversals + 1 if turned and soon else wait.reversals if soon else 0
        return replace(wait, targets=targets, moved_s=now_s, reversals=reversals)
