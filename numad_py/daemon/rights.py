# SPDX-License-Identifier: Apache-2.0

"""Say what the daemon may not do here, and close the gate where nothing is left that it could move."""

from typing import Final

import structlog

from numad_py.act.gate import Gate

WHO: Final = "rights"
PAGES: Final = "CAP_SYS_PTRACE"  # as measured on 6.1: for numa_maps and move_pages of another user's process
TASKS: Final = "CAP_SYS_NICE"  # and for its affinity

_LOST: Final = {
    PAGES: "the pages of other users' processes can neither be seen nor moved",
    TASKS: "the affinity of other users' threads cannot be changed, moving pages takes longer, "
    "and those that several processes map stay where they are",
}


def apply(effective: frozenset[str], gate: Gate) -> None:
    """Go down the ladder: pages and tasks, one of them alone, or observing; each step is told."""
    lacking = [capability for capability in _LOST if capability not in effective]
    for capability in lacking:
        structlog.get_logger().warning("lacking", capability=capability, so=_LOST[capability])
    if len(lacking) == len(_LOST):
        gate.close(WHO, f"neither {PAGES} nor {TASKS}")
    else:
        gate.open(WHO)
