# SPDX-License-Identifier: Apache-2.0

"""NVML's lists are read by PCI address, and whatever it answers instead of a list is one sentence."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from numad_py.kernel import nvml

RECORDED = Path(__file__).parents[2] / "recorded/gpu"


class NvmlError(Exception):
    """What pynvml raises for NVML's own errors."""


class MismatchError(Exception):
    """What pynvml raises where the library is older than itself; no NvmlError."""


class RecordedNvml:
    """Plays the module pynvml from a machine's nvml.json; ``fails`` names the function that does not work."""

    NVMLError = NvmlError
    NVMLLibraryMismatchError = MismatchError

    def __init__(self, machine, fails="", error=None):
        self.gpus = json.loads((RECORDED / machine / "nvml.json").read_text())
        self.open = 0
        self.fails, self.error = fails, error

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "fails"):
            raise object.__getattribute__(self, "error")
        return object.__getattribute__(self, name)

    def nvmlInit(self):  # noqa: N802 - pynvml's own names, here and below
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetPciInfo(self, handle):  # noqa: N802
        return SimpleNamespace(**{name: handle[name] for name in ("domain", "bus", "device")})

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in handle["pids"]]


def test_processes_are_listed_by_address_whatever_the_index():
    pynvml = RecordedNvml("gb200")

    processes = nvml.ask(pynvml)

    assert processes == {
        "0008:01:00.0": {6001},
        "0009:01:00.0": {6002},
        "0018:01:00.0": {6003, 6005},
        "0019:01:00.0": {6004, 6005},
    }


@pytest.mark.parametrize("fails", ["", "nvmlDeviceGetPciInfo"])
def test_nothing_is_held_open_afterwards(fails):
    pynvml = RecordedNvml("dgx-a100", fails, NvmlError("GPU is lost"))

    try:
        nvml.ask(pynvml)
    except nvml.Unanswered:
        assert fails

    assert pynvml.open == 0


@pytest.mark.parametrize(
    ("fails", "error"),
    [
        ("nvmlInit", NvmlError("Driver Not Loaded")),
        ("nvmlDeviceGetHandleByIndex", NvmlError("GPU is lost")),
        ("nvmlDeviceGetComputeRunningProcesses", MismatchError("Unversioned function called")),
    ],
)
def test_what_nvml_says_instead_is_told_by_name(fails, error):
    with pytest.raises(nvml.Unanswered, match=str(error)):
        nvml.ask(RecordedNvml("dgx-a100", fails, error))


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is not None, reason="nvidia-ml-py is installed")
def test_a_missing_package_is_named():
    with pytest.raises(nvml.Unanswered, match="nvidia-ml-py is not installed"):
        nvml.compute_processes()


def test_the_package_is_asked_where_it_is_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", RecordedNvml("dgx-a100"))

    assert nvml.compute_processes()["0000:b7:00.0"] == {4002}
