# SPDX-License-Identifier: Apache-2.0

"""``numad-py demo``: see a late-bound job repaired on this machine, or in the simulator."""

import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from numad_py.cli.seconds import finite
from numad_py.cli.simulate import simulate
from numad_py.daemon import log
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.running import heard_signals
from numad_py.daemon.service import Service
from numad_py.kernel import cgroup, cpulist, node_sysfs, proc_status
from numad_py.kernel.proc_status import Status
from numad_py.model import RegionKind, Snapshot, Tick
from numad_py.topology import Node

SHIPPED_TRACES = (
    Path(__file__).parents[2] / "sim/traces/late-bound-hold.jsonl.zst",
    Path(sys.prefix) / "share/numad-py/sim/traces/late-bound-hold.jsonl.zst",
)
"""Where the recording lies: in the clone, or else installed."""
LOCAL_SHARE = 0.95
_BAR = 12
_TASKSET = "/usr/bin/taskset"  # of util-linux, which every Debian and Ubuntu has

# Touches every page round and round, as a job that works on its data does.
_JOB = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
touch, told = b"1" * (len(memory) // mmap.PAGESIZE), False
while True:
    memory[:: mmap.PAGESIZE] = touch
    if not told:
        told = print("ready", flush=True) or True
"""


def demo(
    *,
    mb: Annotated[
        int, typer.Option(metavar="MB", min=8, help="Memory of the demo job; 1 MB = 2^20 bytes.")
    ] = 200,
    limit_s: Annotated[
        float, typer.Option("--limit", metavar="SECONDS", min=1, callback=finite, help="When to give up.")
    ] = 60.0,
) -> None:
    """See a late-bound job repaired, here or in the simulator.

    With several nodes, and as root: starts a job of its own that allocates on one node and is then
    bound to another, labels that job and no other, and shows the daemon bring its memory home.
    On any other machine a recording of such a job, which ships with numad-py, is replayed.
    """
    why_not = _why_not()
    if why_not:
        recording = shipped_trace()
        print(f"{why_not}; so this replays a late-bound job that was recorded on a machine with two nodes.\n")
        simulate([recording])
        return
    console = Console()
    home, away = _two_nodes()
    with _labelled_job(mb, home, away) as tree:
        console.print(
            f"A job of {mb} MB allocated its memory on node {away.id}, and now runs on node {home.id}."
        )
        _repair(console, tree, home, limit_s)


def _why_not() -> str:
    """Say what keeps the demo from running here; nothing where it can."""
    if len(_local_nodes()) < 2:  # noqa: PLR2004
        return "This machine has one NUMA node with CPUs and memory"
    if len(_usable_nodes()) < 2:  # noqa: PLR2004
        return "This process may not use CPUs and memory of two NUMA nodes"
    if os.geteuid() != 0:
        return "Only root can make and label a cgroup"
    if cgroup.read_mount_point() is None:
        return "No cgroup v2 file system is mounted here"
    return ""


def _local_nodes() -> list[Node]:
    return [node for node in node_sysfs.read_topology().nodes if node.cpus and node.total_bytes]


def _usable_nodes() -> list[Node]:
    return usable(_local_nodes(), proc_status.read(os.getpid()))


def usable(nodes: Iterable[Node], by: Status) -> list[Node]:
    """Give those whose memory and some of whose CPUs a process may use."""
    return [node for node in nodes if node.id in by.nodes_allowed and {*node.cpus} & {*by.cpus_allowed}]


def _two_nodes() -> tuple[Node, Node]:
    """Give where the job will run, and where its memory will be."""
    away, home, *_ = _usable_nodes()
    return home, away


def shipped_trace() -> Path:
    """Give the recording; raises FileNotFoundError where it is not installed."""
    for path in SHIPPED_TRACES:
        if path.exists():
            return path
    raise FileNotFoundError(errno.ENOENT, "no trace to replay", str(SHIPPED_TRACES[-1]))


@contextmanager
def _labelled_job(mb: int, home: Node, away: Node) -> Iterator[Path]:
    """Start the job in a cgroup of its own; give the folder above, whose only label is the job's."""
    with _cgroup() as group, _job(mb, away) as pid:
        (group / "cgroup.procs").write_text(str(pid))
        bind(pid, home)
        os.setxattr(group, cgroup.LABEL, b"default")
        yield group.parent


def bind(pid: int, node: Node) -> None:
    """Have a process run on a node; raise ChildProcessError where it may not."""
    words = [_TASKSET, "-p", "-c", cpulist.render(node.cpus), str(pid)]
    bound = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    if bound.returncode:
        raise ChildProcessError(f"the demo job cannot be bound to node {node.id}: {bound.stderr.strip()}")


@contextmanager
def _cgroup() -> Iterator[Path]:
    """Give a new cgroup in a folder of its own."""
    tree = Path(str(cgroup.read_mount_point())) / f"numad-py-demo-{os.getpid()}"
    group = tree / "job"
    group.mkdir(parents=True)
    try:
        yield group
    finally:
        _remove(group, tree)


@contextmanager
def _job(mb: int, away: Node) -> Iterator[int]:
    """Give the PID of a job that has touched its memory once, on one node."""
    words = [_TASKSET, "-c", cpulist.render(away.cpus), sys.executable, "-c", _JOB, str(mb)]
    job = subprocess.Popen(words, stdout=subprocess.PIPE)  # noqa: S603 - our own words
    try:
        if job.stdout is None or not job.stdout.readline():
            raise ChildProcessError(f"the demo job ended with status {job.wait()}: is there room for it?")
        yield job.pid
    finally:
        job.kill()
        job.communicate()


def _remove(*folders: Path) -> None:
    """Remove cgroups, which the kernel lets go of a moment after their last process."""
    for folder in folders:
        for _ in range(100):
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.02)


def _repair(console: Console, tree: Path, home: Node, limit_s: float) -> None:
    log.configure(foreground=True, level=logging.WARNING)
    service = Service(Config(mode=Mode.ACT, profiles=("default",)), mount=tree)
    began_s = time.monotonic()
    call_s: list[float] = []
    with heard_signals(service.clock):
        for tick in service.ticks():
            call_s += [each for outcome in tick.outcomes for each in outcome.call_s]
            share = _show(console, tick, home, began_s)
            if share >= LOCAL_SHARE or time.monotonic() - began_s > limit_s:
                break
        else:
            return
    _sum_up(console, share, time.monotonic() - began_s, call_s)


def _show(console: Console, tick: Tick, home: Node, began_s: float) -> float:
    """Print a line with a bar; give the job's local share."""
    mb_by_node = _anonymous(tick.snapshot) / 2**20
    share = mb_by_node[tick.snapshot.topology.index_of[home.id]] / max(mb_by_node.sum(), 1)
    nodes = "  ".join(
        f"node {node.id} {mb:4.0f} MB"
        for node, mb in zip(tick.snapshot.topology.nodes, mb_by_node, strict=True)
    )
    moved_bytes = sum(outcome.moved_bytes for outcome in tick.outcomes)
    moved = f", moved {moved_bytes / 2**20:.0f} MB" if moved_bytes else ""
    bar = f"[green]{'█' * round(_BAR * share)}[/]{'·' * (_BAR - round(_BAR * share))}"
    time_s = tick.snapshot.time_s - began_s
    console.print(f"{time_s:5.1f} s  {nodes}  {bar} {share:4.0%} local{moved}", highlight=False)
    return float(share)


def _anonymous(snapshot: Snapshot) -> np.ndarray:
    """Give the job's anonymous bytes by node."""
    total = np.zeros(len(snapshot.topology.nodes))
    for job in snapshot.jobs:
        for process in job.processes:
            regions = process.regions
            total += regions.resident_bytes[regions.kind != RegionKind.FILE].sum(axis=0)
    return total


def _sum_up(console: Console, share: float, took_s: float, call_s: list[float]) -> None:
    calls = np.array(call_s or [0.0]) * 1e3
    console.print(
        f"{share:.0%} of the job's memory is local {took_s:.1f} s after its label was written. Of "
        f"{len(call_s)} moving calls half took {np.percentile(calls, 50):.0f} ms or less, "
        f"the longest {calls.max():.0f} ms.",
        highlight=False,
    )
    if share < LOCAL_SHARE:
        raise typer.Exit(1)
