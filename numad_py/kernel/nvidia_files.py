# SPDX-License-Identifier: Apache-2.0

"""Read which NVIDIA GPUs this machine has, and which of them a process holds open, from files alone.

A process opens /dev/nvidiaN for every GPU that CUDA shows it, whether or not it
then uses that GPU; /dev/nvidiactl and /dev/nvidia-uvm are of no GPU. N is the
driver's minor number: neither NVML's index nor CUDA's.
"""

import os
import re
from itertools import islice
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed

__all__ = ["GPUS", "MOST_DESCRIPTORS", "Malformed", "minor", "read_gpus", "read_open"]

GPUS: Final = Path("proc/driver/nvidia/gpus")
MOST_DESCRIPTORS: Final = 4096  # of one process; CUDA opens its files early, so that their numbers are low

# kernel-open/nvidia/nv-procfs.c, nv_procfs_read_gpu_info() prints "Device Minor: \t 3", and names the folder
# "%04x:%02x:%02x.%1x", as PCI sysfs does.
_MINOR: Final = re.compile(rb"^Device Minor:[ \t]*([0-9]{1,3})[ \t]*$", re.MULTILINE)
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DEVICE: Final = re.compile(r"/dev/nvidia([0-9]{1,3})(?: \(deleted\))?")


def read_gpus(root: Path = Path("/")) -> dict[int, str]:
    """Read the GPUs that NVIDIA's driver has: minor number to PCI address; none without the driver."""
    try:
        folders = list((root / GPUS).iterdir())
    except FileNotFoundError:
        return {}
    return {
        minor((folder / "information").read_bytes()): folder.name
        for folder in folders
        if _ADDRESS.fullmatch(folder.name)
    }


def minor(information: bytes) -> int:
    """Give N of the GPU's /dev/nvidiaN; Malformed where its ``information`` does not say."""
    if not (found := _MINOR.search(information)):
        raise Malformed(f"information: no device minor in {information[:80]!r}")
    return int(found[1])


def read_open(pid: int, root: Path = Path("/")) -> frozenset[int]:
    """Read the minor numbers of the GPUs that a process holds open.

    Only the first ``MOST_DESCRIPTORS`` are looked at, 3 to 5 µs each. Another user's need
    CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
    """
    # The link alone is read. Following it, as stat() would, can wait for a dead file server.
    folder = os.open(root / "proc" / str(pid) / "fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(folder) as entries:
            links = [link(entry.name, folder) for entry in islice(entries, MOST_DESCRIPTORS)]
    finally:
        os.close(folder)
    found = (_DEVICE.fullmatch(link) for link in links)
    return frozenset(int(device[1]) for device in found if device)


def link(name: str, folder: int) -> str:
    """Read one link of an open folder; empty when it is gone."""
    try:
        return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        return ""
