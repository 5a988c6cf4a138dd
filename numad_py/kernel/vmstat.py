# SPDX-License-Identifier: Apache-2.0

"""Read /proc/vmstat, and the file of the same form in each node's sysfs directory."""

import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["Malformed", "counter", "parse", "read"]

# Every kernel has another set of names; they are not enumerated here.
_LINES: Final = re.compile(rb"(?:[!-~]+ [0-9]{1,20}\n)*(?:[!-~]+ [0-9]{1,20})?")

_NUMBER: Final = re.compile(rb"[0-9]{1,20}")


def read(root: Path = Path("/")) -> dict[str, int]:
    """Read /proc/vmstat."""
    return parse((root / "proc/vmstat").read_bytes())


def parse(text: bytes) -> dict[str, int]:
    """Give the counters by name; Malformed for a line that is not a name and a number."""
    if not _LINES.fullmatch(text):
        raise Malformed(f"vmstat: {text[:80]!r}")
    words = text.decode("ascii").split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def counter(text: bytes, name: bytes) -> int:
    """Give one counter, 0 where this kernel has none of that name, without parsing the others.

    Malformed where it is no number.
    """
    begin = (b"\n" + text).find(b"\n%s " % name)
    if begin < 0:
        return 0
    number = text[begin + len(name) + 1 :].partition(b"\n")[0]
    if not _NUMBER.fullmatch(number):
        raise Malformed(f"vmstat: {name.decode()} is {number[:80]!r}")
    return int(number)
