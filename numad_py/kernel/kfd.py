# SPDX-License-Identifier: Apache-2.0

"""Read which AMD GPUs a process has queues on, from the sysfs of KFD, the kernel's compute driver.

A queue is where a process hands work to one GPU; it makes one on first use, so
that a queue is use, where an open /dev/kfd or /dev/dri/renderD128 is none.
Everybody may read these files (KFD_SYSFS_FILE_MODE is 0444). Processes go by
their PIDs of the first PID namespace: ``kfd_create_process()`` in
drivers/gpu/drm/amd/amdkfd/kfd_process.c names the folder after lead_thread->pid.
"""

import errno
import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["Malformed", "address", "compute_processes", "is_present", "number", "read_gpus"]

_KFD: Final = Path("sys/class/kfd/kfd")
_PID: Final = re.compile("[0-9]{1,10}")
_NUMBER: Final = re.compile(rb"([0-9]{1,10})\n?")
_DOMAIN: Final = re.compile(rb"^domain ([0-9]{1,10})$", re.MULTILINE)
_LOCATION: Final = re.compile(rb"^location_id ([0-9]{1,10})$", re.MULTILINE)


def is_present(root: Path = Path("/")) -> bool:
    """Say whether KFD is loaded and tells of processes."""
    return (root / _KFD / "proc").is_dir()


def compute_processes(root: Path = Path("/")) -> dict[str, frozenset[int]]:
    """Give the PIDs with queues on each GPU, by PCI address."""
    gpus = read_gpus(root)
    pids: dict[str, set[int]] = {gpu: set() for gpu in gpus.values()}
    for process in _entries(root / _KFD / "proc"):
        if _PID.fullmatch(process.name):
            for gpu_id in gpus.keys() & _queues(process):
                pids[gpus[gpu_id]].add(int(process.name))
    return {gpu: frozenset(of_it) for gpu, of_it in pids.items()}


def read_gpus(root: Path = Path("/")) -> dict[int, str]:
    """Read KFD's GPUs: its id of each, or of each part of a partitioned one, to the PCI address."""
    gpus: dict[int, str] = {}
    for node in _entries(root / _KFD / "topology/nodes"):
        try:
            if gpu_id := number((node / "gpu_id").read_bytes()):  # 0 is a node of CPUs
                gpus[gpu_id] = address((node / "properties").read_bytes())
        except PermissionError:  # node_show() hides a GPU that our devices cgroup forbids
            continue
    return gpus


def address(properties: bytes) -> str:
    r"""Give the PCI address that a GPU's properties tell; Malformed where they do not.

    >>> address(b"location_id 25344\ndomain 0\n")
    '0000:63:00.0'
    """
    domain, location = _DOMAIN.search(properties), _LOCATION.search(properties)
    if not domain or not location:
        raise Malformed(f"properties: no location_id or domain in {properties[:80]!r}")
    # location_id is bus << 8 | device << 3 | function. The GPU is function 0: the parts of a partitioned MI300
    # are numbered in the function's bits, or in bits 28 to 31 ("drm/amdkfd: Add partition id field to
    # location_id").
    bus, device = int(location[1]) >> 8 & 0xFF, int(location[1]) >> 3 & 0x1F
    return f"{int(domain[1]):04x}:{bus:02x}:{device:02x}.0"


def number(text: bytes) -> int:
    """Give the number that a file holds, with or without a newline; Malformed for anything else."""
    if not (found := _NUMBER.fullmatch(text)):
        raise Malformed(f"not a number: {text[:80]!r}")
    return int(found[1])


def _queues(process: Path) -> set[int]:
    """Give KFD's ids of the GPUs that this process has queues on."""
    gpu_ids: set[int] = set()
    for queue in _entries(process / "queues"):
        try:
            gpu_ids.add(number((queue / "gpuid").read_bytes()))
        except OSError as error:  # destroyed meanwhile; sysfs says ENODEV of a file that was open
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    return gpu_ids


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
