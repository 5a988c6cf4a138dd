# SPDX-License-Identifier: Apache-2.0

"""Read /proc/vmstat, and the file of the same form in each node's sysfs directory."""

import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["Malformed", "parse", "read"]

# Every kernel has another set of names; they are not enumerated here.
_LINE: Final = re.compile(rb"([!-~]+) ([0-9]{1,20})")


def read(root: Path = Path("/")) -> dict[str, int]:
    """Read /proc/vmstat."""
    return parse((root / "proc/vmstat").read_bytes())


def parse(text: bytes) -> dict[str, int]:
    """Give the counters by name; Malformed for a line that is not a name and a number."""
    return dict(_counter(line) for line in text.splitlines())


def _counter(line: bytes) -> tuple[str, int]:
    if not (found := _LINE.fullmatch(line)):
        raise Malformed(f"vmstat: {line[:80]!r}")
    return found[1].decode("ascii"), int(found[2])
