# SPDX-License-Identifier: Apache-2.0

"""Add to what a look saw what other eyes see of the jobs: counters, GPUs, and closer looks in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from numad_py.machines import MachineFile
from numad_py.model import Accesses, Job, JobCounters, Process, ProcessKey
from numad_py.sense.budget import Recurring
from numad_py.sense.counters import Counters
from numad_py.sense.gpus import Gpus
from numad_py.sense.investigate import access_sources
from numad_py.sense.investigate.access_sampling import AccessSampler
from numad_py.sense.investigate.damon_watch import Damon
from numad_py.sense.investigate.idle_pages import IdlePages
from numad_py.sense.investigate.investigations import Investigations, Source
from numad_py.topology import Topology

COUNTING_PART: Final = 0.15  # of the budget


class FurtherSenses:
    """``machine`` is what calibrate wrote of this one, if it was run. What is opened here is closed by ``close``. ``problems`` says what cannot be seen, in sentences."""

    def __init__(
        self,
        topology: Topology,
        *,
        mount: Path,
        core_share: float,
        investigate: bool,
        damon_state: Path,
        machine: MachineFile | None = None,
        root: Path = Path("/"),
    ) -> None:
        self._counters = Counters(
            topology,
            mount=mount,
            root=root,
            verified_events=machine.measured.verified_events if machine else "",
            peak_bytes_per_s=peaks(machine) if machine else {},
        )
        self._counting = Recurring(core_share * COUNTING_PART)
        self._gpus = Gpus(
            {device.address: device.node for device in topology.devices if device.node is not None}, root
        )
        self.sources: list[Source] = []
        if investigate:
            samplers = (AccessSampler(topology, each, root=root) for each in access_sources.available(root))
            damon = Damon(topology, state=damon_state, root=root)
            self.sources += [*samplers, damon, IdlePages(topology, root=root)]
        self._investigations = Investigations(topology, self.sources)
        self.investigation_cpu_s = 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be seen here, or could not lately."""
        return (*self._counters.problems, *self._gpus.problems.values(), *self._investigations.problems)

    def add(self, jobs: Sequence[Job], now_s: float) -> tuple[Job, ...]:
        """Give the jobs with all that is seen of them besides; ``investigation_cpu_s`` is what ended since."""
        counted = self._count(jobs, now_s)
        found = self._investigations.turn(now_s, jobs)
        self.investigation_cpu_s = found.cost_s
        gpus = self._gpus.look((process.key for job in jobs for process in job.processes), now_s)
        return tuple(_with(job, counted.get(job.cgroup_id), gpus, found.accesses) for job in jobs)

    def close(self) -> None:
        """Let go of everything."""
        self._investigations.stop()
        self._counters.close()

    def _count(self, jobs: Sequence[Job], now_s: float) -> Mapping[int, JobCounters]:
        return self._counting.act(now_s, lambda: self._counters.look(jobs)) or {}


def peaks(machine: MachineFile) -> dict[int, float]:
    """Give the most that each node's memory gave to any one node's CPUs, in bytes a second, by node id."""
    columns = zip(*machine.bandwidth.read_gb_per_s, strict=True)
    best = [max((each for each in column if each), default=None) for column in columns]
    return {node: gb * 1e9 for node, gb in zip(machine.measured.nodes, best, strict=False) if gb}


def _with(
    job: Job,
    counters: JobCounters | None,
    gpus: Mapping[ProcessKey, tuple[str, ...]],
    accesses: Mapping[ProcessKey, Accesses],
) -> Job:
    if not gpus and not accesses:
        return replace(job, counters=counters) if counters else job

    def more(process: Process) -> Process:
        key = process.key
        if key not in gpus and key not in accesses:
            return process
        return replace(process, gpus=gpus.get(key, ()), accesses=accesses.get(key))

    return replace(job, counters=counters, processes=tuple(map(more, job.processes)))
