# SPDX-License-Identifier: Apache-2.0

"""Run the loop on the live machine until a signal ends it."""

import contextlib
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol

import psutil
import structlog

from numad_py import __version__, machines, profiles, trace
from numad_py.act.actuator import LiveActuator
from numad_py.act.dry_run import DryRun
from numad_py.act.pages import Sizes
from numad_py.act.price import move_4k_page_ns
from numad_py.daemon.clock import LiveClock
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.log import TickLog
from numad_py.kernel import cgroup, cpulist, hugepages, node_sysfs
from numad_py.loop import ticks
from numad_py.model import Tick
from numad_py.policies.by_profile import ByProfile
from numad_py.roles import Actuator, Policy
from numad_py.sense.further import FurtherSenses
from numad_py.sense.investigate import damon_claim
from numad_py.sense.sensor import LiveSensor
from numad_py.topology import Topology
from numad_py.workers import Workers

ACTING_SHARE = 0.8  # of a period, for which moves may take place in a turn
DAMON_STATE = "run/numad-py/damon"
ONCE_TURNS = 10  # after which --once gives up waiting for something to do


class NoCgroupError(RuntimeError):
    """No cgroup v2 is mounted here, so that no job can be labelled."""

    def __init__(self) -> None:
        super().__init__(
            "no cgroup v2 file system is mounted here, so that no job can be labelled; "
            "mount one: mount -t cgroup2 cgroup2 DIRECTORY"
        )


class Sink(Protocol):
    """Takes ticks: a trace writer, or nobody."""

    def write(self, tick: Tick) -> None:
        """Take one tick."""
        ...


class Nobody:
    """Takes ticks and forgets them."""

    def write(self, tick: Tick) -> None:
        """Forget it."""


class Service:
    """The live machine's parts, wired once: sensor, policies, actuator, clock."""

    def __init__(
        self,
        config: Config,
        *,
        dry_run: bool = False,
        policy: Policy | None = None,
        mount: Path | None = None,
        root: Path = Path("/"),
    ) -> None:
        """Wire everything; raises NoCgroupError and ProfileError before anything is touched.

        ``policy`` stands in for the profiles, ``mount`` for the whole cgroup tree, ``root`` for
        what is above proc/ and sys/.
        """
        mount = mount or cgroup.read_mount_point(root)
        if mount is None:
            raise NoCgroupError
        self.config = config
        self.topology = node_sysfs.read_topology(root)
        self._root = root
        self.acts = config.mode is Mode.ACT and not dry_run and len(self.topology.nodes) > 1
        self.clock = LiveClock()
        self._workers = Workers()
        self._sensor = LiveSensor(
            self.topology,
            self._workers,
            mount=mount,
            root=root,
            costs=config.costs,
            further=partial(self._further, mount),
        )
        self._allowed = None if policy else config.profiles
        self._policy = policy or ByProfile(
            {name: profiles.build(profiles.load(name)) for name in config.profiles}
        )
        self._actuator = self._live() if self.acts else DryRun()
        self._log = TickLog()
        self._told: set[str] = set()  # problems, each of which is told once

    def _further(self, mount: Path, topology: Topology) -> FurtherSenses:
        costs, state = self.config.costs, self._root / DAMON_STATE
        with contextlib.suppress(OSError):  # then DAMON says why it cannot be used
            state.parent.mkdir(exist_ok=True)
            damon_claim.release_stale(state, self._root)
        return FurtherSenses(
            topology,
            mount=mount,
            core_share=costs.budget_core_share,
            investigate=costs.investigate,
            damon_state=state,
            machine=machines.read(Path(self.config.machine)) if self.config.machine else None,
            root=self._root,
        )

    def _live(self) -> Actuator:
        sizes = Sizes(self.topology.page_bytes, hugepages.pmd_bytes(self._root))
        deadline_s = ACTING_SHARE * self.config.period_s
        return LiveActuator(self._workers, sizes, deadline_s=deadline_s, root=self._root)

    def ticks(self) -> Iterator[Tick]:
        """Yield every turn until the clock is stopped, having logged it; then let go of what was opened."""
        try:
            yield from self._ticks()
        finally:
            self._sensor.close()

    def _ticks(self) -> Iterator[Tick]:
        for tick in ticks(
            self._sensor, self._policy, self._actuator, self.clock, period_s=self.config.period_s
        ):
            if tick.snapshot.topology is not self.topology:
                self._tell_of_topology(tick.snapshot.topology)
            self._log.tick(tick, self._sensor.took_s)
            moved = (
                move.process
                for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True)
                if outcome.call_s
            )
            self._sensor.moved(moved)
            self._tell_of_problems()
            self._tell_of_labels(tick)
            yield tick

    def _tell_of_problems(self) -> None:
        for problem in self._sensor.problems:
            if problem not in self._told:
                self._told.add(problem)
                structlog.get_logger().info("not seen", why=problem)

    def _tell_of_topology(self, topology: Topology) -> None:
        self.topology = topology
        cpus = cpulist.render(cpu for node in topology.nodes for cpu in node.cpus)
        structlog.get_logger().warning(
            "topology changed",
            nodes=cpulist.render(topology.node_ids),
            cpus=cpus,
            note="whether to act was decided at the start",
        )

    def _tell_of_labels(self, tick: Tick) -> None:
        for path, why in self._sensor.ignored_labels.items():
            self._log.surprise("label ignored", tick.snapshot.time_s, job=path, why=why)
        for job in tick.snapshot.jobs:
            if self._allowed is not None and job.profile not in self._allowed:
                why = f"the profile {job.profile} is not among those allowed"
                self._log.surprise("label ignored", tick.snapshot.time_s, job=job.path, why=why)

    def header(self) -> trace.Header:
        """Describe this machine at the head of a trace."""
        return trace.Header(
            topology=self.topology,
            kernel=platform.release(),
            boot_id=(self._root / "proc/sys/kernel/random/boot_id").read_text().strip(),
            started_unix_s=time.time(),
            sources=("numa_maps", "memory.numa_stat", "proc_stat"),
            move_4k_page_ns=move_4k_page_ns(self.topology) if self.acts else None,
        )


def run(config: Config, *, dry_run: bool, once: bool) -> None:
    """Run the daemon until SIGTERM or SIGINT, or with ``once`` until something was done."""
    service = Service(config, dry_run=dry_run)
    with stopped_by_signals(service.clock), _trace(config, service.header) as opened:
        _greet(service)
        sink: Sink = opened
        for turn, tick in enumerate(service.ticks(), 1):
            sink = written(sink, tick)
            if once and (tick.plan.moves or turn == ONCE_TURNS):
                break
    structlog.get_logger().info("stopped", note="what was moved stays where it is", **_own_cost())


def written(sink: Sink, tick: Tick) -> Sink:
    """Write the tick; a trace that cannot hold it is at its end, and the next ticks go to nobody."""
    try:
        sink.write(tick)
    except trace.AnotherTopology as error:
        structlog.get_logger().warning("trace ended", note=str(error))
        return Nobody()
    return sink


def _own_cost() -> dict[str, float]:
    """Give what this process has cost so far: its age, its CPU seconds, its resident MB = 2^20 bytes."""
    us = psutil.Process()
    times = us.cpu_times()
    return {
        "up_s": round(time.time() - us.create_time(), 1),
        "cpu_s": round(times.user + times.system, 2),
        "rss_mb": round(us.memory_info().rss / 2**20, 1),
    }


def _greet(service: Service) -> None:
    log = structlog.get_logger()
    log.info(
        "started",
        version=__version__,
        kernel=platform.release(),
        nodes=",".join(map(str, service.topology.node_ids)),
        mode=str(service.config.mode),
        acting=service.acts,
    )
    if len(service.topology.nodes) == 1:
        log.warning(
            "one node", note="this host has a single NUMA node; there is nothing to move, observing on"
        )
    if kernel_balances():
        log.warning(
            "two movers",
            note="kernel.numa_balancing is on: the kernel moves pages too; this is left as it is",
        )


def kernel_balances(root: Path = Path("/")) -> bool:
    """Say whether the kernel's own NUMA balancing is on."""
    try:
        return (root / "proc/sys/kernel/numa_balancing").read_text().strip() != "0"
    except FileNotFoundError:  # a kernel built without it
        return False


def _trace(config: Config, header: Callable[[], trace.Header]) -> AbstractContextManager[Sink]:
    if config.trace is None:
        return nullcontext(Nobody())
    if config.trace_ring_mb is None:
        return trace.Writer(Path(config.trace), header())
    return trace.RingWriter(Path(config.trace), header(), size_bytes=config.trace_ring_mb << 20)


@contextmanager
def stopped_by_signals(clock: LiveClock) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the loop after the turn under way."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        clock.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
