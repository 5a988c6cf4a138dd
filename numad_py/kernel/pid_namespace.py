# SPDX-License-Identifier: Apache-2.0

"""Tell whether our PIDs are those that drivers know."""

from pathlib import Path
from typing import Final

_FIRST: Final = (
    "pid:[4026531836]"  # PROC_PID_INIT_INO, 0xEFFFFFFC, in include/linux/proc_ns.h since Linux 3.8
)


def is_first(root: Path = Path("/")) -> bool:
    """Say whether we are in the first PID namespace: in a container the same number is another process."""
    try:
        return (root / "proc/self/ns/pid").readlink().name == _FIRST
    except FileNotFoundError:
        return False
