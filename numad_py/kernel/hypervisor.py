# SPDX-License-Identifier: Apache-2.0

"""Tell whether this machine is a virtual one, or an emulated one, in which times mean nothing.

The kernel tells nobody that QEMU's TCG interprets its instructions. Three witnesses do: the signature that
CPUID gives (which the caller reads, since no file holds it), the CPU's name, and the name that the firmware
gives the machine. An emulator that hides from all three is not recognised.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CPUID_SIGNATURE: Final = 0x4000_0000
"""The leaf whose ebx, ecx and edx are the hypervisor's name in twelve letters."""

_MODEL: Final = re.compile(rb"^model name[ \t]*:[ \t]*([^\n]{1,200})$", re.MULTILINE)
_FLAGS: Final = re.compile(rb"^flags[ \t]*:([^\n]*)$", re.MULTILINE)
# QEMU: target/i386/cpu.c names qemu64 and, under TCG, max; hw/arm/virt.c virt_build_smbios() says "KVM Virtual
# Machine" under KVM; target/i386/cpu.c cpu_x86_cpuid() gives the signature of TCG.
_EMULATED_CPU: Final = re.compile(r"QEMU (Virtual|TCG) CPU")
_EMULATED_PRODUCT: Final = "QEMU Virtual Machine"
_EMULATED_SIGNATURE: Final = "TCGTCGTCGTCG"


@dataclass(frozen=True)
class Host:
    """What the machine says it is; ``signature`` is empty where no hypervisor gives one."""

    cpu: str
    product: str
    signature: str
    virtual: bool

    @property
    def emulator(self) -> str:
        """The witness that this machine is emulated; empty where there is none."""
        if self.signature == _EMULATED_SIGNATURE:
            return f"CPUID gives the signature {self.signature}"
        if _EMULATED_CPU.match(self.cpu):
            return f"its CPU is called {self.cpu}"
        if self.product == _EMULATED_PRODUCT:
            return f"its firmware calls it {self.product}"
        return ""


def read(signature: bytes = b"", root: Path = Path("/")) -> Host:
    """Read what this machine is; ``signature`` is what CPUID gave."""
    cpu, hypervised = parse_cpuinfo((root / "proc/cpuinfo").read_bytes())
    product = _text(root / "sys/class/dmi/id/product_name")
    hypervisor = signature.rstrip(b"\0").decode("ascii", "replace") if hypervised else ""
    arm_guest = (root / "proc/device-tree/hypervisor").exists() or product.endswith("Virtual Machine")
    return Host(cpu, product, hypervisor, hypervised or arm_guest)


def parse_cpuinfo(text: bytes) -> tuple[str, bool]:
    """Give the name of the first CPU, empty where there is none as on Arm, and whether it is a hypervisor's."""
    model, flags = _MODEL.search(text), _FLAGS.search(text)
    return model[1].decode("ascii", "replace").strip() if model else "", bool(
        flags and b"hypervisor" in flags[1].split()
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii", "replace").strip()
    except OSError:
        return ""
