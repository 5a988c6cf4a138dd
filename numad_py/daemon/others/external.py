# SPDX-License-Identifier: Apache-2.0

"""Ask a policy of others at every turn, and do without it where it does not answer.

Problem: its program is no part of the daemon, has none of its rights, and may do anything but answer.
Primitive: a turn with jobs of its profile waits for it until a deadline; a turn without an answer that can be taken is a missed one.
Application: a missed turn has no wishes; after some in a row a policy of our own stands in, and every few seconds it
is asked anew for as many turns, by another connection: systemd then starts its program anew, too.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from numad_py import policies
from numad_py.daemon import trusted
from numad_py.daemon.log import TickLog
from numad_py.daemon.others.answer import Refused
from numad_py.daemon.others.conversation import Conversation
from numad_py.model import Explanation, LookCost, Plan, ProcessKey, Snapshot, Tick
from numad_py.profile import ProfileError
from numad_py.profiles import ExternalParameters
from numad_py.roles import Policy
from numad_py.trace import Header

AGAIN_S: Final = 10.0  # after which one that did not answer is asked anew


class External(Policy):
    """Wishes what another program wishes; ``profile`` is the name by which it is told of.

    ``missed`` counts turns, and ``why`` says why another policy stands in, while one does.
    """

    def __init__(
        self, profile: str, parameters: ExternalParameters, header: Callable[[], Header], log: TickLog
    ) -> None:
        self.parameters = parameters
        self.profile = profile
        self.missed = 0
        self.why = ""
        self._header = header
        self._log = log
        self._stand_in = policies.BUILT_IN[parameters.fallback](policies.PARAMETERS[parameters.fallback]())
        self._conversation: Conversation | None = None
        self._in_a_row = 0
        self._again_s = 0.0

    def decide(self, snapshot: Snapshot) -> Plan:
        if not snapshot.jobs:
            return Plan()
        if snapshot.time_s >= self._again_s:
            try:
                plan = self._asked(snapshot)
            except (Refused, OSError, ProfileError) as error:
                self._miss(error, snapshot.time_s)
            else:
                self._answered()
                return plan
        return self._stand_in.decide(snapshot) if self.why else Plan()

    def review(self, tick: Tick) -> None:
        if self.why:
            self._stand_in.review(tick)
        if self._conversation:
            self._conversation.review(tick)

    def explain(self, key: ProcessKey) -> Explanation | None:
        return self._stand_in.explain(key) if self.why else None

    def close(self) -> None:
        """Let go of its connection."""
        if self._conversation:
            self._conversation.close()
            self._conversation = None

    def _asked(self, snapshot: Snapshot) -> Plan:
        until_s = time.monotonic() + self.parameters.deadline_ms / 1e3
        if self._conversation and self._conversation.topology is not snapshot.topology:
            self.close()  # a trace holds one topology
        if self._conversation is None:
            # Whoever can put a socket of his own there decides what is wished.
            trusted.check(Path(self.parameters.socket), owners=(0, os.geteuid()))
            header = replace(self._header(), topology=snapshot.topology)
            self._conversation = Conversation.at(
                self.parameters.socket, header, keyframe_every=self.parameters.keyframe_every
            )
        own = replace(snapshot, skipped=(), cost=LookCost())  # which tell of others' processes
        return self._conversation.decide(own, until_s)

    def _miss(self, error: Exception, time_s: float) -> None:
        self.missed += 1
        self._in_a_row += 1
        why = str(error)
        self._log.surprise("policy not heard", time_s, profile=self.profile, why=why)
        if self._in_a_row == self.parameters.patience:
            self._replace(why, time_s)
        elif not isinstance(error, Refused | TimeoutError):
            self.close()

    def _replace(self, why: str, time_s: float) -> None:
        """Let another policy stand in, and ask again after a while, for as many turns: a program takes time to start."""
        self.close()
        self._in_a_row, self._again_s = 0, time_s + AGAIN_S
        if not self.why:
            note = f"{self.parameters.fallback} stands in for it until it answers"
            structlog.get_logger().warning("policy replaced", profile=self.profile, why=why, note=note)
        self.why = why

    def _answered(self) -> None:
        self._in_a_row = 0
        if self.why:
            self.why = ""
            structlog.get_logger().info("policy heard again", profile=self.profile)
