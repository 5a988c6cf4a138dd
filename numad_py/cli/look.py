# SPDX-License-Identifier: Apache-2.0

"""``numad-py look``: print the machine, the labelled jobs and where they are, and change nothing."""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from numad_py.cli import found, hardware
from numad_py.cli.found import ROWS, Found, FoundJob
from numad_py.cli.hardware import MB
from numad_py.daemon import config
from numad_py.daemon.log import printable
from numad_py.kernel import cgroup, cpulist, node_sysfs, proc_status
from numad_py.kernel.cpuset import Cpuset
from numad_py.topology import Ints, Topology


def look(
    pid: Annotated[
        int | None, typer.Argument(metavar="[PID]", min=1, help="Tell of this process alone.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """Show the machine and its jobs, or where one process is.

    Nothing is changed. The machine needs no rights; what may not be read of a job is said.
    """
    show(pid, as_json=as_json)


def show(pid: int | None, *, as_json: bool, root: Path = Path("/")) -> None:
    """Print the look at the machine below ``root``."""
    topology = node_sysfs.read_topology(root)
    if pid is None:
        _show_machine(topology, as_json=as_json, root=root)
        return
    process = _process(pid, topology, root)
    print(_json(_process_values(process)) if as_json else _told(_as_numastat(process, topology)))


def _show_machine(topology: Topology, *, as_json: bool, root: Path) -> None:
    mount = cgroup.read_mount_point(root)
    free_bytes = node_sysfs.read_memory(root, topology).free_bytes
    jobs = found.jobs(mount, config.read(None, {}).config.rules, topology, root) if mount else []
    if as_json:
        print(_json(_values(topology, free_bytes, found.daemons(root), jobs)))
        return
    parts = (
        hardware.as_numactl(topology, free_bytes),
        hardware.picture(topology),
        (*_may_use(found.daemons(root)), *_jobs(jobs, topology)),
    )
    print("\n\n".join(map(_told, parts)))


def _told(lines: Iterable[str]) -> str:
    return "\n".join(map(printable, lines))


def _process(pid: int, topology: Topology, root: Path) -> Found:
    try:
        return found.process(pid, topology, root)
    except found.GONE:
        raise ProcessLookupError(errno.ESRCH, "no such process", f"PID {pid}") from None


def _json(values: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(values)).decode()


def _own() -> Cpuset:
    status = proc_status.read(os.getpid())
    return Cpuset(status.cpus_allowed, status.nodes_allowed)


def _may_use(daemons: dict[int, Cpuset]) -> Iterator[str]:
    for pid, allowed in daemons.items():
        yield f"daemon, PID {pid}: {_cpuset(allowed)}"
    if not daemons:
        yield f"no daemon runs; this process {_cpuset(_own())}"


def _cpuset(allowed: Cpuset) -> str:
    return f"may use CPUs {cpulist.render(allowed.cpus)}, nodes {cpulist.render(allowed.nodes)}"


def _jobs(jobs: list[FoundJob], topology: Topology) -> Iterator[str]:
    if not jobs:
        yield "no job is labelled"
    for job in jobs:
        allowed = _cpuset(job.allowed) if job.allowed else "no cpuset holds for it"
        yield f"job {job.path}: profile {job.profile}, {allowed}"
        yield f"  processes: {' '.join(str(process.pid) for process in job.processes) or 'none'}"
        yield f"  memory in MB: {_on_nodes(job.memory_bytes(topology), topology)}"
        yield f"  threads by where they ran last: {_threads(job.threads())}"
        for pid, why in job.unread.items():
            yield f"  process {pid} was not read: {why}"


def _on_nodes(memory_bytes: Ints, topology: Topology) -> str:
    held = [
        (id_, bytes_) for id_, bytes_ in zip(topology.node_ids, memory_bytes.tolist(), strict=True) if bytes_
    ]
    return ", ".join(f"{bytes_ / MB:.1f} on node {id_}" for id_, bytes_ in held) or "none"


def _threads(threads: dict[int, int]) -> str:
    return ", ".join(f"{count} on node {id_}" for id_, count in sorted(threads.items())) or "none"


def _as_numastat(process: Found, topology: Topology) -> Iterator[str]:
    """Give the lines that ``numastat -p`` prints, and below them where its threads ran."""
    names = [*(f"Node {id_}" for id_ in topology.node_ids), "Total"]
    rule = " ".join(["---------------"] * len(names))
    rows = np.column_stack([process.memory_bytes, process.memory_bytes.sum(axis=1)])
    yield f"Per-node process memory usage (in MBs) for PID {process.pid} ({process.comm})"
    yield f"{'':16}  " + " ".join(f"{name:>15}" for name in names)
    yield f"{'':16}  {rule}"
    for name, row in zip(ROWS, rows, strict=True):
        yield _row(name, row)
    yield f"{'-' * 16}  {rule}"
    yield _row("Total", rows.sum(axis=0))
    yield ""
    yield f"threads by where they ran last: {_threads(process.threads)}"
    yield _cpuset(process.allowed)


def _row(name: str, row: Ints) -> str:
    return f"{name:16}  " + " ".join(f"{bytes_ / MB:15.2f}" for bytes_ in row.tolist())


def _values(
    topology: Topology, free_bytes: Ints, daemons: dict[int, Cpuset], jobs: list[FoundJob]
) -> dict[str, Any]:
    values = asdict(topology)
    for node, free in zip(values["nodes"], free_bytes.tolist(), strict=True):
        node["free_bytes"] = free
    return values | {
        "daemons": [{"pid": pid, "allowed": asdict(allowed)} for pid, allowed in daemons.items()],
        "self": {"pid": os.getpid(), "allowed": asdict(_own())},
        "jobs": [_job_values(job, topology) for job in jobs],
    }


def _job_values(job: FoundJob, topology: Topology) -> dict[str, Any]:
    return {
        "path": printable(job.path),
        "profile": printable(job.profile),
        "allowed": asdict(job.allowed) if job.allowed else None,
        "memory_bytes": job.memory_bytes(topology).tolist(),
        "threads": job.threads(),
        "processes": [_process_values(process) for process in job.processes],
        "unread": {pid: printable(why) for pid, why in job.unread.items()},
    }


def _process_values(process: Found) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "comm": printable(process.comm),
        "allowed": asdict(process.allowed),
        "memory_bytes": {name: row.tolist() for name, row in zip(ROWS, process.memory_bytes, strict=True)},
        "threads": process.threads,
    }
