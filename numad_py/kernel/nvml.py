# SPDX-License-Identifier: Apache-2.0

"""Ask NVML, NVIDIA's management library, which processes compute on which GPU.

It is asked through nvidia-ml-py (the extra ``gpu``), and only while the question
lasts: a library that stays initialised holds every GPU open, and then none can be
reset and the driver cannot be unloaded.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType

__all__ = ["Unanswered", "compute_processes"]


class Unanswered(OSError):
    """NVML gave no answer; the text tells why."""


def compute_processes() -> Mapping[str, frozenset[int]]:
    """Give the PIDs with a compute context on each GPU, by PCI address; Unanswered where NVML cannot say.

    MIG instances count as the GPU that they are part of. Needs root to see other users' processes there.
    It can take seconds where a GPU must wake up, and for ever where one fell off the bus.
    """
    try:
        pynvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        raise Unanswered("the Python package nvidia-ml-py is not installed") from None
    return ask(pynvml)


def ask(pynvml: ModuleType) -> Mapping[str, frozenset[int]]:
    """Ask this pynvml, initialise it before and shut it down after."""
    errors = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError)
    try:
        pynvml.nvmlInit()
        try:
            return _by_address(pynvml)
        finally:
            pynvml.nvmlShutdown()
    except errors as error:
        raise Unanswered(f"NVML: {error}") from error


def _by_address(pynvml: ModuleType) -> Mapping[str, frozenset[int]]:
    # An index has no meaning outside this loop: it differs from CUDA's and from the driver's minor number.
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return {
        _address(pynvml.nvmlDeviceGetPciInfo(handle)): frozenset(
            process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        )
        for handle in handles
    }


def _address(pci: object) -> str:
    """Write an address as PCI sysfs does: NVML's own string has eight digits of domain, in capitals."""
    domain, bus, device = (int(getattr(pci, name)) for name in ("domain", "bus", "device"))
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"
