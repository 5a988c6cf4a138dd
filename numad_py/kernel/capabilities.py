# SPDX-License-Identifier: Apache-2.0

"""Read which capabilities we have, of those that this project can use."""

import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["Malformed", "effective", "parse"]

_BITS: Final = {  # include/uapi/linux/capability.h
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_PERFMON": 38,
}
_CAP_EFF: Final = re.compile(rb"^CapEff:\t([0-9a-f]{16})$", re.MULTILINE)
_WHOLE_MACHINE: Final = [b"0", b"0", b"4294967295"]  # uid_map of the first user namespace


def effective(root: Path = Path("/")) -> frozenset[str]:
    """Read the capabilities that count for the whole machine: none inside a user namespace."""
    if (root / "proc/self/uid_map").read_bytes().split() != _WHOLE_MACHINE:
        return frozenset()
    return parse((root / "proc/self/status").read_bytes())


def parse(status: bytes) -> frozenset[str]:
    """Give the names behind the CapEff line of /proc/PID/status; Malformed where there is none."""
    if not (found := _CAP_EFF.search(status)):
        raise Malformed(f"status: no line such as {_CAP_EFF.pattern.decode()}")
    mask = int(found[1], 16)
    return frozenset(name for name, bit in _BITS.items() if mask >> bit & 1)
