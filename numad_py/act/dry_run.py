# SPDX-License-Identifier: Apache-2.0

"""Do nothing, and say so."""

from numad_py.model import Ending, Outcome, Plan
from numad_py.roles import Actuator


class DryRun(Actuator):
    """An actuator that leaves everything where it is."""

    def move(self, plan: Plan) -> tuple[Outcome, ...]:
        return tuple(Outcome(Ending.DRY_RUN) for _ in (*plan.moves, *plan.task_moves))
