# SPDX-License-Identifier: Apache-2.0

"""Wire the loop to the live machine, as one configuration says."""

import contextlib
import platform
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from numad_py import machines, profiles, trace
from numad_py.act.actuator import LiveActuator
from numad_py.act.affinity_journal import AffinityJournal, Narrowed, Restored
from numad_py.act.gate import Gate
from numad_py.act.pages import Sizes
from numad_py.act.price import move_4k_page_ns
from numad_py.act.tasks import TaskMover
from numad_py.daemon import kept, trusted
from numad_py.daemon.clock import LiveClock
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.log import TickLog
from numad_py.daemon.others.external import External
from numad_py.guard import Limits
from numad_py.kernel import cgroup, cpulist, hugepages, node_sysfs
from numad_py.loop import ACTING_SHARE, ticks
from numad_py.mendable import Mendable
from numad_py.model import ProcessKey, Tick
from numad_py.policies.by_profile import ByProfile
from numad_py.policies.trees import ModelError, Trees
from numad_py.profile import Profile
from numad_py.roles import Actuator, Policy
from numad_py.sense import opt_in
from numad_py.sense.further import FurtherSenses
from numad_py.sense.investigate import damon_claim
from numad_py.sense.jobs import Jobs
from numad_py.sense.sensor import LiveSensor
from numad_py.topology import Topology
from numad_py.workers import Workers

DAMON_STATE = "run/numad-py/damon"


class NoCgroupError(Mendable):
    """No cgroup v2 is mounted here, so that no job can be labelled."""

    def __init__(self) -> None:
        super().__init__(
            "no cgroup v2 file system is mounted here, so that no job can be labelled; "
            "mount one: mount -t cgroup2 cgroup2 DIRECTORY"
        )


class Service:
    """The live machine's parts, wired once: sensor, policies, actuator, clock."""

    def __init__(
        self,
        config: Config,
        gate: Gate | None = None,
        after: "Service | None" = None,
        *,
        affinities: AffinityJournal | None = None,
        policy: Policy | None = None,
        mount: Path | None = None,
        root: Path = Path("/"),
    ) -> None:
        """Wire everything; raises NoCgroupError and ProfileError before anything is touched.

        It takes over from the service ``after`` which it comes: the gate, the clock, what the guard waits for,
        what was told, the labels that were said through the socket, what jobs report, what is to be restored. Without ``affinities``
        none is changed. ``policy`` stands in for the profiles, ``mount`` for the whole cgroup tree, ``root`` for
        what is above proc/ and sys/.
        """
        mount = mount or cgroup.read_mount_point(root)
        if mount is None:
            raise NoCgroupError
        self.config = config
        self.mount = mount
        self.topology = _topology(root, after)
        self._root = root
        self.gate: Gate = after.gate if after else gate or Gate()
        self.clock: LiveClock = after.clock if after else LiveClock()
        self.workers: Workers = after.workers if after else Workers()
        self.affinities: AffinityJournal | None = after.affinities if after else affinities
        self.log: TickLog = after.log if after else TickLog()
        self._close_the_gate()
        # Once: where nodes or CPUs come or go later, the file may be gone, or no longer whole.
        self._machine = machines.read(Path(config.machine)) if config.machine else None
        rules = replace(config.rules, said=after.jobs.rules.said) if after else config.rules
        reported = after.jobs.reported if after else None
        self.jobs: Jobs = Jobs(mount, replace(rules, profiles=None) if policy else rules, reported)
        self._sensor = LiveSensor(
            self.topology,
            self.workers,
            self.jobs,
            root=root,
            costs=config.costs,
            further=partial(self._further, mount),
        )
        found = {} if policy else {name: profiles.load(name) for name in config.profiles}
        self.others: list[External] = []
        self._leave_tasks = {name for name, profile in found.items() if not profile.guard.tasks}
        self.policy = policy or ByProfile(
            {name: profiles.build(each, self._external, self._model) for name, each in found.items()}
        )
        self._actuator = self._live()
        if after:
            self.policy.recall(after.policy.waits())

    def _external(self, chosen: Profile[Any, Limits]) -> Policy:
        """Make a policy that asks another program."""
        self.others.append(External(chosen.name, chosen.parameters, self.header, self.log))
        return self.others[-1]

    def _model(self, name: str) -> Trees:
        """Read a trained model that nobody else could have written; say so where there is none, since rules stand in."""
        try:
            return trusted.model(name)
        except ModelError as error:
            structlog.get_logger().warning("no model", why=str(error), note="the rules of threshold decide")
            raise

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
            machine=self._machine,
            root=self._root,
        )

    def _close_the_gate(self) -> None:
        """Speak against acting where the configuration does, or where there is nowhere to move to."""
        self.gate.open("configuration")
        if self.config.mode is not Mode.ACT:
            self.gate.close("configuration", f"mode: {self.config.mode}")
        if len(self.topology.nodes) == 1:
            self.gate.close("one node", "there is nothing to move")

    def _live(self) -> Actuator:
        sizes = Sizes(self.topology.page_bytes, hugepages.pmd_bytes(self._root))
        deadline_s = ACTING_SHARE * self.config.period_s
        tasks = None
        if self.affinities:
            tasks = TaskMover(self.affinities, self._job_of, self.workers, self.gate, self._root)
        return LiveActuator(
            self.workers,
            sizes,
            self.gate,
            tasks=tasks,
            deadline_s=deadline_s,
            rhythm=self.jobs.reported.rhythm,
            root=self._root,
        )

    def _job_of(self, process: ProcessKey) -> Narrowed | None:
        for group in self.jobs.groups:
            if process.pid in self.jobs.pids[group.cgroup_id]:
                apart = opt_in.apart(self.jobs.labels, group)
                return Narrowed(group.cgroup_id, str(group.directories[0]), apart=apart)
        return None

    def restore_affinities(self) -> Restored:
        """Give every thread back what it had before us; in the loop's thread alone."""
        return kept.restore(self.affinities) if self.affinities else Restored()

    @property
    def taken_back(self) -> int:
        """How many threads were given back the CPUs that they had, since the start."""
        return self.affinities.restored.threads if self.affinities else 0

    @property
    def look_s(self) -> float:
        """How long the last look took."""
        return self._sensor.took_s

    def ticks(self) -> Generator[Tick, None, None]:
        """Yield every turn until the clock is stopped, having logged it; then let go of what was opened."""
        try:
            yield from self._ticks()
        finally:
            self._sensor.close()
            for each in self.others:
                each.close()

    def _ticks(self) -> Iterator[Tick]:
        for tick in ticks(
            self._sensor, self.policy, self._actuator, self.clock, period_s=self.config.period_s
        ):
            if tick.snapshot.topology is not self.topology:
                self._tell_of_topology(tick.snapshot.topology)
            self.log.tick(tick, self.look_s)
            moved = (
                move.process
                for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True)
                if outcome.call_s
            )
            self._sensor.moved(moved)
            self.log.once("not seen", self._sensor.problems)
            if self.affinities:
                jobs = (job for job in tick.snapshot.jobs if job.profile not in self._leave_tasks)
                kept.restore(self.affinities, but={job.cgroup_id for job in jobs})
            self._tell_of_labels(tick)
            yield tick

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
        for path, why in self.jobs.ignored.items():
            self.log.surprise("label ignored", tick.snapshot.time_s, job=path, why=why)

    def header(self) -> trace.Header:
        """Describe this machine at the head of a trace."""
        return trace.Header(
            topology=self.topology,
            kernel=platform.release(),
            boot_id=(self._root / "proc/sys/kernel/random/boot_id").read_text().strip(),
            started_unix_s=time.time(),
            sources=("numa_maps", "memory.numa_stat", "proc_stat"),
            move_4k_page_ns=move_4k_page_ns(self.topology) if self.gate.is_open else None,
        )


def _topology(root: Path, after: Service | None) -> Topology:
    """Read the topology; where only the sizes of nodes differ it is the one before: a balloon is no new node."""
    found = node_sysfs.read_topology(root)
    return after.topology if after and _sizeless(found) == _sizeless(after.topology) else found


def _sizeless(topology: Topology) -> Topology:
    return replace(topology, nodes=tuple(replace(node, total_bytes=0) for node in topology.nodes))
