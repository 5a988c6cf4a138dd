# SPDX-License-Identifier: Apache-2.0

"""Tell what can be seen on this machine, from which source, and what would let us see more.

It is told from files alone: nothing is opened that counts, samples or watches.
"""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from numad_py.kernel import capabilities, cgroup, cpulist, kfd, nvidia_files, page_idle, pid_namespace

_DEVICES: Final = Path("sys/bus/event_source/devices")
_BALANCING: Final = Path("proc/sys/kernel/numa_balancing")
_PARANOID: Final = Path("proc/sys/kernel/perf_event_paranoid")
_DAMON: Final = Path("sys/kernel/mm/damon/admin")
_DAMON_MODULES: Final = ("damon_reclaim", "damon_lru_sort")
_BALANCING_NORMAL: Final = 1  # NUMA_BALANCING_NORMAL in include/linux/sched/sysctl.h
_PARANOID_OF_THE_KERNEL: Final = 2  # the highest value that means something to it
_PARANOID_OF_DEBIAN: Final = 3
_HIDDEN: Final = re.compile(r" - proc \S+ \S*\bhidepid=(?!0|off)")
_PMU: Final = re.compile(r"cpu|cpu_core|armv\w+")


class Seen(StrEnum):
    """How much of something can be seen."""

    YES = "yes"
    LIMITED = "limited"
    NO = "no"


@dataclass(frozen=True)
class Finding:
    """One sense here: ``source`` is what it reads; ``remedy`` is what it lacks, empty where it lacks nothing."""

    sense: str
    seen: Seen
    source: str
    remedy: str = ""


@dataclass(frozen=True)
class Host:
    """The machine as its files show it to us, and what we may do there."""

    root: Path
    capabilities: frozenset[str]
    has_nvml_package: bool

    def read(self, path: Path) -> str | None:
        """Give a small file's text; None where it is missing or may not be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip()  # users name what they mount
        except (FileNotFoundError, PermissionError):
            return None


def host(root: Path = Path("/")) -> Host:
    """Look at this machine."""
    return Host(root, capabilities.effective(root), importlib.util.find_spec("pynvml") is not None)


def findings(host: Host) -> tuple[Finding, ...]:
    """Check every sense."""
    return tuple(check(host) for check in CHECKS)


def nodes(host: Host) -> Finding:
    """Check how many nodes there are."""
    online = host.read(Path("sys/devices/system/node/online"))
    if online is None:
        return Finding("nodes", Seen.NO, "none in sysfs", "a kernel with CONFIG_NUMA")
    count = len(cpulist.parse(online))
    if count == 1:
        return Finding(
            "nodes", Seen.LIMITED, "one node", "a second node: on one nothing can be placed better"
        )
    return Finding("nodes", Seen.YES, f"{count} nodes: {online}")


def labels(host: Host) -> Finding:
    """Check whether jobs can be labelled."""
    mount = cgroup.read_mount_point(host.root)
    if mount is None:
        return Finding(
            "labels of jobs", Seen.NO, "", "cgroup v2: boot with systemd.unified_cgroup_hierarchy=1"
        )
    return Finding("labels of jobs", Seen.YES, f"cgroup v2 at /{mount.relative_to(host.root)}")


def job_placement(host: Host) -> Finding:
    """Check whether one file tells a whole job's memory by node."""
    sense, mount = "placement of a job", cgroup.read_mount_point(host.root)
    controllers = host.read(mount / "cgroup.controllers") if mount else None
    if "memory" in (controllers or "").split():
        return Finding(sense, Seen.YES, "memory.numa_stat")
    remedy = "the memory controller in cgroup v2: boot with cgroup_no_v1=memory"
    return Finding(sense, Seen.LIMITED, "numa_maps of its processes, read more often", remedy)


def process_placement(host: Host) -> Finding:
    """Check whether the pages of a process can be seen."""
    sense, source = "placement of a process", "numa_maps; move_pages for a sample of its pages"
    if not (host.root / "proc/self/numa_maps").exists():
        return Finding(sense, Seen.NO, "", "a kernel with CONFIG_NUMA")
    if "CAP_SYS_PTRACE" not in host.capabilities:
        return Finding(sense, Seen.LIMITED, source, "CAP_SYS_PTRACE for other users' processes")
    return Finding(sense, Seen.YES, source)


def cpu_residency(host: Host) -> Finding:
    """Check whether it can be seen where threads run."""
    sense, source = "CPUs of threads", "/proc/PID/task/TID/stat"
    hidden = _HIDDEN.search(host.read(Path("proc/self/mountinfo")) or "")
    if hidden and "CAP_SYS_PTRACE" not in host.capabilities:
        return Finding(sense, Seen.LIMITED, source, "CAP_SYS_PTRACE: /proc is mounted with hidepid")
    return Finding(sense, Seen.YES, source)


def counters(host: Host) -> Finding:
    """Check whether the CPUs' counters can be read."""
    pmus = [pmu for pmu in _event_sources(host) if _PMU.fullmatch(pmu)]
    if not pmus:
        return Finding(
            "counters", Seen.NO, "", "a CPU that shows its counters; few virtual machines have one"
        )
    return _by_perf(host, "counters", f"perf events of {', '.join(pmus)}")


def access_samples(host: Host) -> Finding:
    """Check what can tell which thread touches which page."""
    sense = "accesses by address"
    if sampler := _sampler(host):
        return _by_perf(host, sense, sampler)
    if int(host.read(_BALANCING) or 0) & _BALANCING_NORMAL:
        source = "hint faults of kernel.numa_balancing"
        return _by_perf(host, sense, source, "IBS, PEBS or SPE in the CPU, which would show more of them")
    remedy = "IBS, PEBS or SPE in the CPU; or kernel.numa_balancing=1, which moves pages too"
    return Finding(sense, Seen.NO, "", remedy)


def heat(host: Host) -> Finding:
    """Check whether DAMON can be used, or else idle-page tracking, which does not tell who."""
    finding = _damon(host)
    idle_pages = (host.root / page_idle.BITMAP).exists() and "CAP_SYS_ADMIN" in host.capabilities
    if finding.seen is Seen.NO and idle_pages:
        return replace(finding, seen=Seen.LIMITED, source="idle-page tracking, which does not tell who")
    return finding


def _damon(host: Host) -> Finding:
    """Check whether DAMON can be used. The machine has it once: who finds it in use gives way."""
    sense = "heat of memory"
    if not (host.root / _DAMON).is_dir():
        return Finding(sense, Seen.NO, "", "a kernel with CONFIG_DAMON_SYSFS and CONFIG_DAMON_VADDR")
    running = host.read(_DAMON / "kdamonds/nr_kdamonds")
    if running is None:
        return Finding(sense, Seen.NO, "", "root: DAMON's files are root's alone")
    modules = [module for module in _DAMON_MODULES if host.read(_enabled(module)) == "Y"]
    if running != "0" or modules:
        users = " and ".join(modules) or "somebody else"
        return Finding(sense, Seen.NO, "", f"DAMON, which {users} is using")
    return Finding(sense, Seen.YES, "DAMON")


def gpus(host: Host) -> Finding:
    """Check whether it can be seen which process uses which GPU."""
    sense, amd = "GPUs of a process", kfd.is_present(host.root)
    nvidia = (host.root / nvidia_files.GPUS).is_dir()
    if not amd and not nvidia:
        return Finding(sense, Seen.NO, "no driver here that tells: NVIDIA's, or AMD's KFD")
    listed = pid_namespace.is_first(host.root)
    sources = ["KFD's queues"] * (amd and listed)
    if nvidia:
        sources.append("NVML" if listed and host.has_nvml_package else "open /dev/nvidiaN")
    if not listed:
        remedy = "the first PID namespace: drivers know processes by other PIDs than this container"
    else:
        remedy = "" if host.has_nvml_package or not nvidia else "pip install 'numad-py[gpu]'"
    return Finding(sense, Seen.LIMITED if remedy else Seen.YES, ", ".join(sources), remedy)


CHECKS: Final[tuple[Callable[[Host], Finding], ...]] = (
    nodes,
    labels,
    job_placement,
    process_placement,
    cpu_residency,
    counters,
    access_samples,
    heat,
    gpus,
)


def _event_sources(host: Host) -> list[str]:
    folder = host.root / _DEVICES
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _sampler(host: Host) -> str:
    """Name what the CPU samples addresses with; empty where it cannot."""
    sources = _event_sources(host)
    if "ibs_op" in sources:
        return "IBS"
    if any(source.startswith("arm_spe_") for source in sources):
        return "SPE"
    intel = any((host.root / _DEVICES / name / "events/mem-loads").exists() for name in ("cpu", "cpu_core"))
    return "PEBS" if intel else ""


def _by_perf(host: Host, sense: str, source: str, lacking: str = "") -> Finding:
    """Give what can be seen by perf events here, where ``lacking`` would be missing even with every right."""
    # kernel/events/core.c: what runs on a CPU is shown while the sysctl is 0 or less, and what we run ourselves
    # up to 2 (perf_allow_cpu(), perf_allow_kernel()); Debian and Ubuntu add 3 and 4, which forbid all of it. At
    # Debian's 3, its default, CAP_PERFMON helps nobody, only CAP_SYS_ADMIN (measured on its 6.1 and 6.12).
    paranoid = host.read(_PARANOID)
    if paranoid is None:
        return Finding(sense, Seen.NO, "", "a kernel with CONFIG_PERF_EVENTS")
    enough = {"CAP_SYS_ADMIN"} if int(paranoid) == _PARANOID_OF_DEBIAN else {"CAP_PERFMON", "CAP_SYS_ADMIN"}
    if int(paranoid) <= 0 or host.capabilities & enough:
        return Finding(sense, Seen.LIMITED if lacking else Seen.YES, source, lacking)
    remedy = f"CAP_PERFMON and kernel.perf_event_paranoid=2, or 0 without it (it is {paranoid})"
    if int(paranoid) > _PARANOID_OF_THE_KERNEL:
        return Finding(sense, Seen.NO, "", remedy)
    return Finding(sense, Seen.LIMITED, f"{source}, for your own processes", remedy)


def _enabled(module: str) -> Path:
    return Path("sys/module", module, "parameters/enabled")
