# SPDX-License-Identifier: Apache-2.0

"""Read how often this kernel has warned and oopsed: after that nothing it does can be trusted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, small_file

__all__ = ["Alarms", "Malformed", "read"]

_OOPS_BIT: Final = 7  # TAINT_DIE and TAINT_WARN in include/linux/panic.h
_WARNING_BIT: Final = 9


@dataclass(frozen=True)
class Alarms:
    """Since boot. Where the kernel does not count them, 1 says that there were some."""

    oopses: int
    warnings: int


def read(root: Path = Path("/")) -> Alarms:
    """Read the counts; Malformed where they are no numbers."""
    # Since Linux commits 9db89b411170 ("exit: Expose "oops_count" to sysfs") and 8b05aa263361 ("panic: Expose
    # "warn_count" to sysfs") (in v6.2); before, the taint tells of the first alone.
    taint = _number(f"{root}/proc/sys/kernel/tainted") or 0
    oopses = _number(f"{root}/sys/kernel/oops_count")
    warnings = _number(f"{root}/sys/kernel/warn_count")
    return Alarms(
        taint >> _OOPS_BIT & 1 if oopses is None else oopses,
        taint >> _WARNING_BIT & 1 if warnings is None else warnings,
    )


def _number(path: str) -> int | None:
    try:
        text = small_file.read(path).decode().strip()
    except FileNotFoundError:
        return None
    if not text.isdecimal():
        raise Malformed(f"{path}: {text[:80]!r}")
    return int(text)
