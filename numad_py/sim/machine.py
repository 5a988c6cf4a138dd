# SPDX-License-Identifier: Apache-2.0

"""A machine that lives a recorded day again, under a policy of its own."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from numad_py.loop import ACTING_SHARE
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
    RegionKind,
    Regions,
    Snapshot,
    Threads,
)
from numad_py.roles import Actuator, Clock, Sensor
from numad_py.sim.cost import Prices
from numad_py.sim.demand import Recording, Rows, Wanted
from numad_py.sim.moving import Flow, carry_out
from numad_py.sim.placement import apportion, growth_weights, inherit, spill
from numad_py.sim.progress import Progress
from numad_py.sim.sharing import followed
from numad_py.sim.sight import Acuity, Sight
from numad_py.topology import Bools, Ints, Topology

_FILE = int(RegionKind.FILE)


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

    ``profile`` is what every job is labelled with; ``deadline_s`` is the moving time that one tick may cost, or
    None for the daemon's share of the time since the last. With an ``acuity`` it is looked at as well as that; ``truth`` is what it is like.
    """

    truth: Snapshot

    def __init__(
        self,
        recording: Recording,
        prices: Prices,
        *,
        profile: str,
        deadline_s: float | None,
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
        self._moving_s: dict[ProcessKey, float] = {}
        self._progress = Progress(prices)
        self._private_bytes: Ints = np.zeros((2, 1), np.int64)
        self._shifted_bytes: Ints = np.zeros(
            (2, 1), np.int64
        )  # of what is shared, from where it was recorded

    def wait(self, period_s: float) -> bool:
        return not self._recording.ended

    def look(self) -> Snapshot:
        seen = self._recording.snapshot
        self._place_all(seen.topology)
        self.truth = replace(seen, memory=self._memory(), jobs=tuple(map(self._job, seen.jobs)))
        if any(job.progress is not None for job in seen.jobs):
            self.truth = self._progress.look(self.truth, self._moving_s)
        return self._sight.see(self.truth, self._moved) if self._sight else self.truth

    def move(self, plan: Plan) -> tuple[Outcome, ...]:
        bound = [self._bind(wish) for wish in plan.task_moves]
        self._moved = frozenset(move.process for move in plan.moves)
        as_live_s = ACTING_SHARE * self._recording.turn_s
        left_ns, self._moving_s = (
            round((as_live_s if self._deadline_s is None else self._deadline_s) * 1e9),
            {},
        )
        outcomes = []
        for move in plan.moves:
            outcomes.append(self._carry_out(move, left_ns))
            left_ns -= round(outcomes[-1].took_s * 1e9)
            self._moving_s[move.process] = self._moving_s.get(move.process, 0.0) + outcomes[-1].took_s
        return (*outcomes, *bound)

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
        used_bytes = self._recording.others[0] + self._shifted_bytes[0] + self._private_bytes[0]
        free_bytes: Ints = memory.total_bytes - used_bytes
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
            self._free_bytes() - memory.high_watermark_bytes + memory.clean_bytes, 0
        )
        return room_bytes

    def _memory(self) -> NodeMemory:
        recorded, free_bytes = self._recording.snapshot.memory, self._free_bytes()
        evicted_bytes = np.clip(-free_bytes, 0, recorded.clean_bytes)
        return replace(
            recorded,
            free_bytes=np.maximum(free_bytes, 0),
            file_bytes=recorded.file_bytes - evicted_bytes,
            inactive_file_bytes=recorded.inactive_file_bytes - evicted_bytes,
            anon_bytes=self._recording.others[1] + self._shifted_bytes[1] + self._private_bytes[1],
        )

    def _job(self, job: Job) -> Job:
        """Give the job with this machine's placement. What its cgroup was charged by node is the recorded policy's."""
        processes = tuple(
            _as_here(each, self._placed[each.key].regions, self._threads(each)) for each in job.processes
        )
        return replace(job, profile=self._profile, processes=processes, memory=None)

    def _bind(self, wish: MoveTasks) -> Outcome:
        """Narrow a process to the CPUs of nodes, if it may use all of them and they have some; else it stays as it is."""
        wanted, on = self._recording.wanted.get(wish.process), self._recording.snapshot.topology
        if wanted is None:
            return Outcome(Ending.GONE)
        nodes = np.isin(on.node_ids, wish.nodes) & on.has_cpus
        if not set(wish.nodes) <= set(wanted.process.nodes_allowed) or not nodes.any():
            return Outcome(Ending.REFUSED, detail="nodes outside the cpuset, or without CPUs")
        before = self._bound.get(wish.process)
        self._bound[wish.process] = nodes
        unchanged = before is not None and np.array_equal(before, nodes)
        return Outcome(Ending.DONE, moved_threads=0 if unchanged else len(wanted.process.threads.tid))

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
            self._follow(move, placed.regions, flow)
        return outcome

    def _follow(self, move: MovePages, regions: Regions, flow: Flow) -> None:
        """Let all for whom pages were moved have them where they are now; what is shared is counted once."""
        shared = regions.page_bytes * (regions.mapmax > 1)
        both = np.array([shared, shared * (regions.kind != _FILE)])
        self._shifted_bytes = self._shifted_bytes + both @ (flow.arriving - flow.leaving)
        for key in move.among:
            other = self._placed.get(key)
            if other is not None and key != move.process:
                self._put(key, _Placed.at(other.rows, followed(other.regions, regions, flow)), other)


def _with_pages(regions: Regions, pages: Ints) -> Regions:
    """Do what replace() does, in a third of the time."""
    return Regions(
        regions.start,
        regions.end,
        regions.page_bytes,
        regions.kind,
        regions.mempolicy,
        regions.mapmax,
        regions.backing,
        regions.offset,
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
