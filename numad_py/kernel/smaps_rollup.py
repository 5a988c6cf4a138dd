# SPDX-License-Identifier: Apache-2.0

"""Read /proc/PID/smaps_rollup: how much of a process's memory lies in transparent huge pages."""

import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["Malformed", "parse_huge_bytes", "read_huge_bytes"]

_ANON_HUGE: Final = re.compile(rb"^AnonHugePages: +([0-9]{1,14}) kB$", re.MULTILINE)


def read_huge_bytes(pid: int, root: Path = Path("/")) -> int:
    """Read a process's anonymous bytes in huge pages. It walks all of its memory, under its lock."""
    return parse_huge_bytes((root / "proc" / str(pid) / "smaps_rollup").read_bytes())


def parse_huge_bytes(text: bytes) -> int:
    """Give the anonymous bytes in huge pages; Malformed where the line is missing."""
    found = _ANON_HUGE.search(text)
    if not found:
        raise Malformed(f"smaps_rollup: no AnonHugePages in {text[:80]!r}")
    return int(found[1]) << 10
