# SPDX-License-Identifier: Apache-2.0

"""Tell cheaply whether nodes, memory or CPUs came or went: four small files, compared as text."""

from pathlib import Path
from typing import Final

from numad_py.kernel import small_file

__all__ = ["present"]

_LISTS: Final = (
    "sys/devices/system/node/online",
    "sys/devices/system/node/has_memory",
    "sys/devices/system/node/has_cpu",
    "sys/devices/system/cpu/online",
)


def present(root: Path = Path("/")) -> tuple[str, ...]:
    """Give what is there now, to be compared with what was there before.

    What the kernel was built without is empty, and so is what cannot be read now.
    """
    return tuple(_text(f"{root}/{path}") for path in _LISTS)


def _text(path: str) -> str:
    try:
        return small_file.read(path).decode("ascii")
    except OSError:
        return ""
