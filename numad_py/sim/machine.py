# SPDX-License-Identifier: Apache-2.0

"""A machine that lives a recorded day again, under a policy of its own."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from numad_py.model import (
    Ending,
    Job,
    MovePages,
    MoveTasks,
    NodeMemory,
    Outcome,
    Plan,
    Process,
    ProcessKey,
    Regions,
    Snapshot,
    Threads,
)
from numad_py.roles import Actuator, Clock, Sensor
from numad_py.sim.cost import Prices
from numad_py.sim.demand import Recording, Rows, Wanted
from numad_py.sim.moving import carry_out
from numad_py.sim.placement import apportion, growth_weights, inherit, spill
from numad_py.sim.sight import Acuity, Sight
from numad_py.topology import Bools, Ints, Topology


@dataclass(frozen=True, eq=False)
class _Placed:
    """One process's regions as this machine has placed them."""

    rows: Rows
    regions: Regions

    @cached_property
    def private(self) -> Ints:
        return self.rows.private_by_node(self.regions.pages)

    @staticmethod
    def at(rows: Rows, pages: Ints) -> "_Placed":
        pages = np.asfortranarray(pages)  # as in a trace: adding up columns takes a quarter of the time
        pages.setflags(write=False)
        return _Placed(rows, _with_pages(rows.recorded, pages))


class ReplayedMachine(Sensor, Actuator, Clock):
    """Plays sensor, actuator and clock over a recording: its demand, this machine's own placement.

    ``profile`` is what every job is labelled with; ``deadline_s`` is the moving time that one tick may cost. With an
    ``acuity`` it is looked at as well as that; ``truth`` is what it is like.
    """

    truth: Snapshot

    def __init__(
        self,
        recording: Recording,
        prices: Prices,
        *,
        profile: str,
        deadline_s: float,
        acuity: Acuity | None = None,
    ) -> None:
        self._recording = recording
        self._prices = prices
        self._profile = profile
        self._deadline_s = deadline_s
        self._placed: dict[ProcessKey, _Placed] = {}
        self._left: dict[ProcessKey, _Placed] = {}
        self._bound: dict[ProcessKey, Bools] = {}
        self._sight = Sight(acuity) if acuity else None
        self._moved: frozenset[ProcessKey] = frozenset()
        self._private_bytes: Ints = np.zeros((2, 1), np.int64)

    def wait(self, period_s: float) -> bool:
        return not self._recording.ended

    def look(self) -> Snapshot:
        seen = self._recording.snapshot
        self._place_all(seen.topology)
        self.truth = replace(seen, memory=self._memory(), jobs=tuple(map(self._job, seen.jobs)))
        return self._sight.see(self.truth, self._moved) if self._sight else self.truth

    def move(self, plan: Plan) -> tuple[Outcome, ...]:
        for wish in plan.task_moves:
            self._bind(wish)
        self._moved = frozenset(move.process for move in plan.moves)
        left_ns = round(self._deadline_s * 1e9)
        outcomes = []
        for move in plan.moves:
            outcomes.append(self._carry_out(move, left_ns))
            left_ns -= round(outcomes[-1].took_s * 1e9)
        return tuple(outcomes)

    def _place_all(self, on: Topology) -> None:
        """Bring every process's placement up to what the recording demands now."""
        recording = self._recording
        for key in recording.gone:
            self._left[key] = self._placed.pop(key)
            self._private_bytes = self._private_bytes - self._left[key].private
        for key in recording.changed:
            old = self._placed.get(key)
            known = old or self._left.pop(key, None)
            self._put(key, self._place(recording.wanted[key], known, on), old)
        if len(self._left) > len(recording.left):
            self._left = {key: self._left[key] for key in recording.left}
            self._bound = {
                key: on for key, on in self._bound.items() if key in self._left or key in self._placed
            }

    def _put(self, key: ProcessKey, placed: _Placed, old: _Placed | None) -> None:
        self._placed[key] = placed
        if placed is not old:
            self._private_bytes = self._private_bytes + placed.private
            if old is not None:
                self._private_bytes -= old.private

    def _place(self, wanted: Wanted, old: _Placed | None, on: Topology) -> _Placed:
        rows = wanted.rows
        if wanted.first_pages is not None or old is None:
            return _Placed.at(rows, rows.recorded.pages)
        if rows is old.rows:  # it was only away for a while
            return old
        was = old.regions.pages
        pages = was.copy("K") if wanted.kin is None else inherit(was, wanted.kin)
        changed = np.flatnonzero(pages.sum(axis=1) != rows.pages)
        if len(changed):
            pages[changed] = self._fit(pages[changed], changed, wanted, on)
        return _Placed.at(rows, pages)

    def _fit(self, pages: Ints, changed: Ints, wanted: Wanted, on: Topology) -> Ints:
        """Shrink and grow the changed rows to what they hold now."""
        now, recorded = wanted.rows.pages[changed], wanted.rows.recorded
        had = pages.sum(axis=1)
        kept = apportion(pages, np.minimum(had, now)) if (had > now).any() else pages
        cpu_parts = self._cpu_parts(wanted, on)
        weights = growth_weights(kept, recorded.mempolicy[changed], cpu_parts, wanted.allowed)
        growth = apportion(weights, now - kept.sum(axis=1))
        room_bytes = np.where(wanted.allowed, self._unused_bytes(), 0)
        return kept + spill(growth, recorded.page_bytes[changed], room_bytes, on.distances)

    def _free_bytes(self) -> Ints:
        """Free memory by node; negative where page cache has to go."""
        memory = self._recording.snapshot.memory
        free_bytes: Ints = memory.total_bytes - self._recording.others[0] - self._private_bytes[0]
        return free_bytes

    def _unused_bytes(self) -> Ints:
        """Give what first touch fills before it goes to the next node.

        Documentation/admin-guide/sysctl/vm.rst, zone_reclaim_mode: 0, the default, means that "allocations will be
        satisfied from other zones / nodes in the system" before page cache is reclaimed.
        """
        unused_bytes: Ints = np.maximum(
            self._free_bytes() - self._recording.snapshot.memory.high_watermark_bytes, 0
        )
        return unused_bytes

    def _room_bytes(self) -> Ints:
        """Give what moved pages may fill: clean page cache on their target makes way (__GFP_THISNODE)."""
        memory = self._recording.snapshot.memory
        room_bytes: Ints = np.maximum(
            self._free_bytes() - memory.high_watermark_bytes + _clean_bytes(memory), 0
        )
        return room_bytes

    def _memory(self) -> NodeMemory:
        recorded, free_bytes = self._recording.snapshot.memory, self._free_bytes()
        evicted_bytes = np.clip(-free_bytes, 0, _clean_bytes(recorded))
        return replace(
            recorded,
            free_bytes=np.maximum(free_bytes, 0),
            file_bytes=recorded.file_bytes - evicted_bytes,
            inactive_file_bytes=recorded.inactive_file_bytes - evicted_bytes,
            anon_bytes=self._recording.others[1] + self._private_bytes[1],
        )

    def _job(self, job: Job) -> Job:
        """Give the job with this machine's placement. What its cgroup was charged by node is the recorded policy's."""
        processes = tuple(
            _as_here(each, self._placed[each.key].regions, self._threads(each)) for each in job.processes
        )
        return replace(job, profile=self._profile, processes=processes, memory=None)

    def _bind(self, wish: MoveTasks) -> None:
        """Narrow a process to the CPUs of nodes, if it may use all of them and they have some; else it stays as it is."""
        wanted, on = self._recording.wanted.get(wish.process), self._recording.snapshot.topology
        if wanted is not None and set(wish.nodes) <= set(wanted.process.nodes_allowed):
            nodes = np.isin(on.node_ids, wish.nodes) & on.has_cpus
            if nodes.any():
                self._bound[wish.process] = nodes

    def _threads(self, process: Process) -> Threads:
        """Give the threads where they run here: those that may not stay where they ran go to the CPUs they may use in turn."""
        bound, threads = self._bound.get(process.key), process.threads
        if bound is None:
            return threads
        on = self._recording.snapshot.topology
        node = on.index_of_cpu[np.minimum(threads.cpu, len(on.index_of_cpu) - 1)]
        away = np.flatnonzero((node >= 0) & ~bound[node])
        cpus = np.array([cpu for each, may in zip(on.nodes, bound, strict=True) if may for cpu in each.cpus])
        cpu = threads.cpu.copy()
        cpu[away] = cpus[np.arange(len(away)) % len(cpus)]
        return Threads(threads.tid, cpu, threads.cpu_s)

    def _cpu_parts(self, wanted: Wanted, on: Topology) -> Ints:
        bound = self._bound.get(wanted.process.key)
        if bound is None:
            return wanted.cpu_parts
        away = int(wanted.cpu_parts[~bound].sum())
        cpus = on.cpus_by_node * bound
        parts: Ints = wanted.cpu_parts * bound + apportion(cpus[None], np.array([away]))[0]
        return parts

    def _carry_out(self, move: MovePages, left_ns: int) -> Outcome:
        placed, wanted = self._placed.get(move.process), self._recording.wanted.get(move.process)
        if placed is None or wanted is None:
            return Outcome(Ending.GONE)
        if not set(move.targets) <= set(wanted.process.nodes_allowed):
            return Outcome(Ending.REFUSED, detail="target outside the cpuset")
        on = self._recording.snapshot.topology
        outcome, flow = carry_out(
            move, placed.regions, on.index_of, self._room_bytes(), left_ns, self._prices
        )
        if outcome.moved_bytes:
            pages = placed.regions.pages - flow.leaving + flow.arriving
            self._put(move.process, _Placed.at(placed.rows, pages), placed)
        return outcome


def _with_pages(regions: Regions, pages: Ints) -> Regions:
    """Do what replace() does, in a third of the time."""
    return Regions(
        regions.start,
        regions.end,
        regions.page_bytes,
        regions.kind,
        regions.mempolicy,
        regions.mapmax,
        regions.anon_pages,
        pages,
    )


def _as_here(process: Process, regions: Regions, threads: Threads) -> Process:
    """Do what replace() does, in a third of the time: this is done for every process and policy at every tick."""
    return Process(
        process.key,
        process.comm,
        process.nodes_allowed,
        threads,
        regions,
        process.placement_age_s,
        process.cpu_age_s,
        process.placement_source,
        process.placement_error_share,
        process.gpus,
        process.accesses,
    )


def _clean_bytes(memory: NodeMemory) -> Ints:
    clean_bytes: Ints = np.maximum(memory.inactive_file_bytes - memory.dirty_bytes, 0)
    return clean_bytes
