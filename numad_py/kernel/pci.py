# SPDX-License-Identifier: Apache-2.0

"""Read /sys/bus/pci: the GPUs and network adapters, and the nodes that they hang on."""

import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed
from numad_py.topology import Device, DeviceKind

__all__ = ["Malformed", "kind_of", "read_devices"]

_DEVICES: Final = Path("sys/bus/pci/devices")
_HEX: Final = re.compile(r"0x[0-9a-f]{1,8}")
_NODE: Final = re.compile(r"-1|[0-9]{1,6}")

# By base class, include/linux/pci_ids.h. Processing accelerators (0x12) are what some data centre GPUs say they are.
_KINDS: Final = {0x02: DeviceKind.NIC, 0x03: DeviceKind.GPU, 0x12: DeviceKind.GPU}
_INFINIBAND: Final = 0x0C06  # a serial bus by its base class, on older adapters

# The screens of management controllers and of virtual machines compute nothing: ASPEED, Matrox, Cirrus, QEMU, Red Hat.
_SCREENS: Final = frozenset({0x1A03, 0x102B, 0x1013, 0x1234, 0x1B36, 0x1AF4})


def read_devices(node_ids: tuple[int, ...], root: Path) -> tuple[Device, ...]:
    """Give the GPUs and network adapters, ascending by address; none where there is no PCI.

    Virtual functions are left out: they hang where their physical one does. A device
    that is unplugged meanwhile is left out too.
    """
    if not (root / _DEVICES).is_dir():
        return ()
    found = (_device(path, node_ids) for path in sorted((root / _DEVICES).iterdir()))
    return tuple(device for device in found if device)


def kind_of(class_: int, vendor: int) -> DeviceKind | None:
    """Say what a device of this class (24 bits) and vendor is; None for what is of no interest here.

    >>> kind_of(0x030200, 0x10DE)
    <DeviceKind.GPU: 'gpu'>
    """
    if class_ >> 8 == _INFINIBAND:
        return DeviceKind.NIC
    kind = _KINDS.get(class_ >> 16)
    return None if kind is DeviceKind.GPU and vendor in _SCREENS else kind


def _device(path: Path, node_ids: tuple[int, ...]) -> Device | None:
    try:
        class_ = _number(path / "class")
        if class_ >> 16 not in _KINDS and class_ >> 8 != _INFINIBAND:  # most devices: one file is enough
            return None
        kind = kind_of(class_, _number(path / "vendor"))
        node = _node(path / "numa_node")
    except FileNotFoundError:
        return None
    if kind is None or (path / "physfn").exists():
        return None
    return Device(path.name, kind, node if node in node_ids else None)


def _number(path: Path) -> int:
    text = path.read_text("ascii").strip()
    if not _HEX.fullmatch(text):
        raise Malformed(f"{path}: not a hexadecimal number: {text[:80]!r}")
    return int(text, 16)


def _node(path: Path) -> int:
    """Give the node, -1 where the firmware does not say, or the kernel was built without NUMA."""
    if not path.exists():
        return -1
    text = path.read_text("ascii").strip()
    if not _NODE.fullmatch(text):
        raise Malformed(f"{path}: not a node: {text[:80]!r}")
    return int(text)
