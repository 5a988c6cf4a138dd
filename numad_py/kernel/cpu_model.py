# SPDX-License-Identifier: Apache-2.0

"""Read /proc/cpuinfo: which generation of CPU this is."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from numad_py.kernel import Malformed

__all__ = ["ARM", "Cpu", "Malformed", "parse", "read"]

ARM: Final = "0x41"  # Arm Ltd. as implementer: MIDR_EL1 of its cores

_VENDOR: Final = re.compile(rb"^(?:vendor_id|CPU implementer)\s*: *([ -~]{1,40}?) *$", re.MULTILINE)
_FAMILY: Final = re.compile(rb"^(?:cpu family|CPU architecture)\s*: *([0-9]{1,4})$", re.MULTILINE)
_MODEL: Final = re.compile(rb"^(?:model\t\t|CPU part\t): *(0x[0-9a-f]{1,4}|[0-9]{1,4})$", re.MULTILINE)


class Cpu(NamedTuple):
    """A generation: on x86 CPUID's vendor, family and model; on arm64 MIDR's implementer, 8, and part."""

    vendor: str
    family: int
    model: int


def read(root: Path = Path("/")) -> Cpu:
    """Read which CPU this machine has; its first, where they differ."""
    return parse((root / "proc/cpuinfo").read_bytes())


def parse(text: bytes) -> Cpu:
    """Give the first CPU of a cpuinfo; Malformed where it tells no vendor, family or model."""
    found = [pattern.search(text) for pattern in (_VENDOR, _FAMILY, _MODEL)]
    if not all(found):
        raise Malformed(f"cpuinfo: no vendor, family and model in {text[:80]!r}")
    vendor, family, model = (match[1].decode("ascii") for match in found if match)
    return Cpu(vendor, int(family), int(model, 0))
