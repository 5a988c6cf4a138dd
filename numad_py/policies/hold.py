# SPDX-License-Identifier: Apache-2.0

"""Do nothing: the baseline of every comparison."""

from dataclasses import dataclass

from numad_py.model import Decision, Explanation, Plan, ProcessKey, Snapshot
from numad_py.roles import Policy


@dataclass(frozen=True)
class HoldParameters:
    """There is nothing to set."""


class Hold(Policy):
    """Leaves every page where it is."""

    def __init__(self, parameters: HoldParameters = HoldParameters()) -> None:
        self.parameters = parameters

    def decide(self, snapshot: Snapshot) -> Plan:
        return Plan()

    def explain(self, key: ProcessKey) -> Explanation:
        return Explanation(Decision.STAY)
