# SPDX-License-Identifier: Apache-2.0

"""Say why an event cannot be counted, and what would help."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_DEVICES: Final = Path("sys/bus/event_source/devices")
_PARANOID: Final = Path("proc/sys/kernel/perf_event_paranoid")
_CPU_PMUS: Final = ("cpu", "armv")  # cpu, cpu_core, cpu_atom; armv8_pmuv3_0, armv8_neoverse_v2, ...

_FORBIDDEN: Final = (
    "forbidden (kernel.perf_event_paranoid is {paranoid}); grant CAP_PERFMON and lower that to 2, or to 0, "
    "and in a container let its seccomp profile pass perf_event_open"
)
_NO_DESCRIPTORS: Final = "no file descriptors left; raise LimitNOFILE"
_NO_PMU: Final = (
    "this machine shows no CPU counters, as most virtual machines; give it a virtual PMU or count on its host"
)
_UNKNOWN: Final = "this CPU or kernel does not have it; nothing helps but another kernel or CPU"

_NO_CGROUP: Final = (
    "the kernel has no CONFIG_CGROUP_PERF, or perf_event is a cgroup v1 hierarchy of its own; unmount it"
)
# What perf_cgroup_connect() says without CONFIG_CGROUP_PERF, and css_tryget_online_from_dir() in
# kernel/cgroup/cgroup.c of a directory that perf_event is not mounted on.
_NOT_A_CGROUP: Final = {errno.EINVAL, errno.ENOENT, errno.EBADF}

# What perf_event_open(2) says.
_WHY: Final[Mapping[int, str]] = {
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EMFILE: _NO_DESCRIPTORS,
    errno.ENFILE: "the machine has no file descriptors left; raise fs.file-max",
    errno.ENOENT: _UNKNOWN,
    errno.ENODEV: _UNKNOWN,
    errno.ENXIO: _UNKNOWN,
    errno.EOPNOTSUPP: _UNKNOWN,
    errno.EINVAL: "the kernel refuses its code, or has too few counters for it beside the others, "
    "or is older than Linux 5.13 and cannot count one process; a newer kernel helps with the last",
    errno.EBUSY: "somebody else keeps the counters for himself; end that profiler",
    errno.ENOSYS: "this kernel is built without CONFIG_PERF_EVENTS",
}


def why(error: OSError, root: Path = Path("/")) -> str:
    """Give, for an event that could not be opened, the cause and the remedy."""
    reason = _WHY.get(error.errno or 0, error.strerror or str(error))
    if reason == _UNKNOWN and not has_pmu(root):
        reason = _NO_PMU
    return reason.format(paranoid=paranoid(root))


def why_no_cgroup(error: OSError, root: Path = Path("/")) -> str:
    """Give, for an event that can be had, why not of a cgroup."""
    return _NO_CGROUP if error.errno in _NOT_A_CGROUP else why(error, root)


def paranoid(root: Path = Path("/")) -> str:
    """Read kernel.perf_event_paranoid: above 0 only CAP_PERFMON may count whole CPUs, above 1 the kernel."""
    try:
        return (root / _PARANOID).read_text("ascii").strip()
    except FileNotFoundError:
        return "not there"


def has_pmu(root: Path = Path("/")) -> bool:
    """Say whether the kernel knows counters of the CPU."""
    try:
        return any(device.name.startswith(_CPU_PMUS) for device in (root / _DEVICES).iterdir())
    except FileNotFoundError:
        return False
