# SPDX-License-Identifier: Apache-2.0

"""Look at the live machine: its nodes, the labelled jobs, where they run and where their pages are.

Problem: what tells most costs most. Reading all of it at every look would take the
daemon a core, and the jobs their mmap locks.
Primitive: a ladder of small files, each of which tells whether the next is worth reading.
A process's own line of times and faults says whether it ran, and whether it can have got or
lost pages; memory.numa_stat gives a job's bytes by node in one small read.
Application: threads are read where a process ran, page tables where its pages can have
moved or are long unread, most urgent first and within a budget. What had to wait is said.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from numad_py.kernel import Malformed, cgroup, hotplug, node_sysfs, proc_stat, small_file, vmstat
from numad_py.model import Job, JobMemory, LookCost, Mempolicy, NodeMemory, ProcessKey, Skipped, Snapshot
from numad_py.roles import Sensor
from numad_py.sense.budget import Budget, Recurring
from numad_py.sense.cpu_time import NO_THREADS, CpuTime
from numad_py.sense.further import FurtherSenses
from numad_py.sense.jobs import Jobs, uncovered
from numad_py.sense.known import LIKELY_PLACEMENT_S, Known, Then, agrees
from numad_py.sense.opt_in import LabelledCgroup
from numad_py.sense.placement import WHOLE_WALK_S, Placement, Reader
from numad_py.sense.sharing import Sharing
from numad_py.topology import Topology
from numad_py.workers import Unfinished, Workers

# How old what is known may be: then its urgency is 1. What is known to have changed goes first.
CPU_S: Final = 2.5
FIRST_PLACEMENT_S: Final = 25.0  # so long that many new processes do not keep us from who runs
CHANGED_PLACEMENT_S: Final = 5.0
PLACEMENT_S: Final = 50.0
EARLY: Final = 0.5  # the urgency from which on a look reads what has not changed, if it can afford to
RETRY_S: Final = 60.0  # after which what could not be read is tried again

MOST_ROWS: Final = 500_000  # of regions and VMAs, some 50 MB: a user can make 65,530 VMAs a process

FINDING_PART: Final = 0.2  # of the budget, for which jobs there are
GLANCING_PART: Final = 0.4  # and for who is in them, and a glance at each


@dataclass(frozen=True)
class Costs:
    """What looking may cost: the daemon, as a share of one core, and any process, in one walk of a VMA.

    ``first_walk_ms`` is allowed once and then seldom, to learn mempolicies, and more while a process is quiet; 0 forbids it.
    ``assume_default_mempolicy`` says what to take for the mempolicies of a process that is too large for
    numa_maps, where they cannot be read: if true, that it has none, else its pages are left alone.
    ``investigate`` allows a closer look at a job now and then, at a tenth of a core for ten seconds.
    """

    budget_core_share: float = 0.01
    longest_walk_ms: float = 5.0
    first_walk_ms: float = 100.0
    assume_default_mempolicy: bool = False
    investigate: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.budget_core_share <= 1:
            raise ValueError("budget_core_share: a share is above 0 and at most 1")
        if self.longest_walk_ms < 0:
            raise ValueError("longest_walk_ms: must not be negative")
        if not 0 <= self.first_walk_ms <= WHOLE_WALK_S * 1e3:
            raise ValueError(f"first_walk_ms: allowed is 0 to {WHOLE_WALK_S * 1e3:g}")


class LiveSensor(Sensor):
    """Reads the labelled jobs of this machine.

    Reading another user's numa_maps needs CAP_SYS_PTRACE; processes that may
    not be read, or that the label of a user does not cover, are named in ``Snapshot.skipped``.
    After a look ``jobs`` tells which labels there are, and ``took_s`` how long it took.
    ``further`` opens what else is to be looked at; where it is left out, pages and CPU time are all.
    Where nodes or CPUs came or went, the topology is read anew, and so are all placements.
    """

    def __init__(
        self,
        topology: Topology,
        workers: Workers,
        jobs: Jobs,
        *,
        root: Path = Path("/"),
        costs: Costs | None = None,
        now: Callable[[], float] = time.monotonic,
        further: Callable[[Topology], FurtherSenses] | None = None,
    ) -> None:
        self._costs = costs = costs or Costs()
        self._now = now
        self._open_further = further
        self._further = further(topology) if further else None
        self._topology = topology
        self._workers = workers
        self._root = root
        self._budget = Budget(costs.budget_core_share)
        self._finding = Recurring(costs.budget_core_share * FINDING_PART)
        self._glancing = Recurring(costs.budget_core_share * GLANCING_PART)
        sampled = Mempolicy.DEFAULT if costs.assume_default_mempolicy else Mempolicy.UNKNOWN
        self._reader = Reader(topology, costs.longest_walk_ms / 1e3, costs.first_walk_ms / 1e3, sampled, root)
        self._cpu_time = CpuTime(root)
        self._sharing = Sharing(root)
        self._present = hotplug.present(root)
        self._known: dict[int, Known] = {}  # by PID
        self._unread: dict[int, Skipped] = {}  # by PID: those of which not even stat could be read
        self._memory: dict[int, JobMemory | None] = {}
        self._trusted: dict[int, JobMemory] = {}
        self._unseen: dict[str, str] = {}  # what could not be read, why
        self._waiting: list[Known] = []  # who wants to be read anew, and may not yet
        self._watermarks: Mapping[int, int] | None = None  # by node, as of the last glance
        self._likely_placement_s = LIKELY_PLACEMENT_S
        self._migrated_pages = 0
        self._glanced_s = float("-inf")
        self._left_cpu_s: float | None = None  # of the loop's thread, when it left the last look
        self.jobs = jobs
        self.took_s = 0.0

    def moved(self, processes: Iterable[ProcessKey]) -> None:
        """Read these again at the next glance: some of their pages have just been moved."""
        for key in processes:
            if known := self._known.get(key.pid):
                known.was_moved = True

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be seen here, in sentences."""
        further = self._further.problems if self._further else ()
        return (*self.jobs.problems, *self._unseen.values(), *further)

    def close(self) -> None:
        """Let go of what was opened."""
        self.jobs.close()
        if self._further:
            self._further.close()

    def look(self) -> Snapshot:
        if (present := hotplug.present(self._root)) != self._present:
            self._renew(present)
        return self._look()

    def _renew(self, present: tuple[str, ...]) -> None:
        try:
            self._topology = node_sysfs.read_topology(self._root, self._topology.page_bytes)
        except (OSError, Malformed) as error:  # still changing: the next look tries again
            self._unseen["topology"] = f"the topology cannot be read anew: {error}"
            return
        self._unseen.pop("topology", None)
        self._present = present
        self._reader = replace(self._reader, topology=self._topology)
        self._known.clear()  # their columns are in the order of the nodes that were
        self._memory.clear()
        if self._further and self._open_further:
            self._further.close()
            self._further = self._open_further(self._topology)
        self._glancing = Recurring(self._costs.budget_core_share * GLANCING_PART)

    def _look(self) -> Snapshot:
        now_s, began_s = self._now(), time.process_time()
        self._budget.fill(now_s)
        self._pay_for_the_rest_of_the_turn(now_s)
        self._finding.act(now_s, self._find)
        self._glancing.act(now_s, lambda: self._glance(now_s))
        nodes = self._node_memory()
        postponed = self._read_the_most_urgent(now_s, began_s)
        members = {group.cgroup_id: self._members(group) for group in self.jobs.groups}
        self._sharing.tell(members)
        self.jobs.reported.look(self.jobs.pids)
        jobs = tuple(self._job(group, members[group.cgroup_id], now_s) for group in self.jobs.groups)
        investigation_cpu_s = 0.0
        if self._further:
            jobs = self._further.add(jobs, now_s)
            investigation_cpu_s = self._further.investigation_cpu_s
        cost_s = time.process_time() - began_s
        self._budget.pay(now_s, cost_s)
        cost = LookCost(cost_s, self._budget.spent_share(now_s), postponed, investigation_cpu_s)
        self.took_s = self._now() - now_s
        self._left_cpu_s = time.thread_time()
        return Snapshot(now_s, self._topology, nodes, jobs, tuple(self._skipped()), cost)

    def _pay_for_the_rest_of_the_turn(self, now_s: float) -> None:
        """Book what policies, log and trace took since the last look: the loop's own thread, in which nothing moves."""
        left_s = self._left_cpu_s
        if left_s is not None:
            self._budget.pay(now_s, time.thread_time() - left_s)

    def _node_memory(self) -> NodeMemory:
        """Read what each node has free; where that cannot be read, it has no room."""
        self._unseen.pop("memory", None)
        try:
            if self._watermarks is None:
                self._watermarks = node_sysfs.read_watermarks(self._root)
            return node_sysfs.read_memory(self._root, self._topology, self._watermarks)
        except (OSError, Malformed) as error:  # a node that goes off line among others: the next look knows
            self._unseen["memory"] = f"the memory of nodes cannot be read, so nothing has room: {error}"
            return no_room(self._topology)

    def _find(self) -> None:
        """Find out which jobs there are; who is in them is seen again at each glance."""
        if self.jobs.refresh():
            self._forget()

    def _forget(self) -> None:
        """Forget who is in no job any more."""
        alive = {pid for pids in self.jobs.pids.values() for pid in pids}
        self._known = {pid: known for pid, known in self._known.items() if pid in alive}
        self._unread = {pid: skipped for pid, skipped in self._unread.items() if pid in alive}
        self._cpu_time.keep({known.key for known in self._known.values()})

    def _glance(self, now_s: float) -> None:
        """See who is there, and what one line tells of each job, and of each process."""
        self._glanced_s, self._watermarks = now_s, None
        self.jobs.list_processes()
        self._forget()
        try:
            text = small_file.read(f"{self._root}/proc/vmstat")
            self._migrated_pages = vmstat.counter(text, b"pgmigrate_success")
        except (OSError, Malformed):
            self._migrated_pages += 1  # for all that is known, somebody moved some
        self._memory = {group.cgroup_id: self._job_memory(group) for group in self.jobs.groups}
        for group in self.jobs.groups:
            for pid in self.jobs.pids[group.cgroup_id]:
                self._glance_at(pid, group, now_s)

    def _glance_at(self, pid: int, group: LabelledCgroup, now_s: float) -> None:
        self._unread.pop(pid, None)
        known = self._known.get(pid)
        try:
            line = proc_stat.read_line(pid, self._root)
            stat = known.stat if known and known.line == line else proc_stat.parse(line)
            stranger = uncovered(pid, group, self._root)
        except (ProcessLookupError, FileNotFoundError):
            self._known.pop(pid, None)
            return
        except (OSError, Malformed) as error:
            # Neither start time nor command can be told where they were not read.
            self._known.pop(pid, None)
            self._unread[pid] = Skipped(ProcessKey(pid, 0), "", str(error))
            return
        key = ProcessKey(pid, stat.start_ticks)
        if known is None or known.key != key or known.job != group.cgroup_id:
            self._known[pid] = known = Known(key, stat, group.cgroup_id, now_s)
            self._cpu_time.forget(key)  # it may have been of another job
        known.line = line
        known.glance(stat, now_s)
        if stranger or now_s >= known.retry_s:
            known.why, known.retry_s = stranger, now_s
        if stranger:
            self._cpu_time.forget(key)  # what it uses meanwhile is nobody's business, should it come back
        if known.threads_s > float("-inf") and not self._cpu_time.ran(known.key, known.ticks):
            known.threads_s = now_s
        if known.is_where_it_was(self._migrated_pages):
            known.sure_s = now_s

    def _job_memory(self, group: LabelledCgroup) -> JobMemory | None:
        """Give what a job is charged by node, where that may be believed or nothing is known yet."""
        try:
            text = small_file.read(f"{group.directories[0]}/memory.numa_stat")
            return cgroup.numa_stat(text, self._topology.node_ids)
        except (OSError, Malformed):  # no memory controller here, or the cgroup is gone
            return None

    def _agreeing(self) -> dict[int, JobMemory]:
        """Give, by job, what it is charged, where that agrees with its processes."""
        rss_anon_bytes = Counter[int]()
        for known in self._known.values():
            rss_anon_bytes[known.job] += known.rss_anon_bytes
        return {
            job: memory
            for job, memory in self._memory.items()
            if memory is not None and agrees(memory, rss_anon_bytes[job])
        }

    def _read_the_most_urgent(self, now_s: float, began_s: float) -> tuple[ProcessKey, ...]:
        """Read threads and page tables for as long as the budget lasts; give who has to wait.

        Only a glance tells who else should be read.
        """
        for known in self._known.values():
            known.threads = NO_THREADS
        weighed = list(self._known.values()) if self._glanced_s == now_s else self._still_waiting()
        self._trusted = self._agreeing() if weighed else {}
        wanted = [
            *((urgency, known, True) for urgency, known in self._unread_threads(weighed, now_s)),
            *((urgency, known, False) for urgency, known in self._unread_placements(weighed, now_s)),
        ]
        wanted.sort(key=lambda each: -each[0])
        left_s = self._budget.left_s(time.process_time() - began_s)
        threads: list[Known] = []
        placements: list[Known] = []
        waiting: list[Known] = []
        for _, known, is_threads in wanted:
            if left_s <= 0:
                waiting.append(known)
                continue
            placement_s = known.walk_s(now_s) or known.placement_cost_s(self._likely_placement_s)
            left_s -= known.threads_cost_s if is_threads else placement_s
            (threads if is_threads else placements).append(known)
        for known in threads:
            self._read_threads(known, now_s)
        self._read_placements(placements, now_s)
        self._waiting = list(dict.fromkeys(waiting))
        return tuple(known.key for known in self._waiting)

    def _still_waiting(self) -> list[Known]:
        return [known for known in self._waiting if self._known.get(known.key.pid) is known]

    def _unread_threads(self, weighed: Iterable[Known], now_s: float) -> Iterator[tuple[float, Known]]:
        for known in weighed:
            if self._cpu_time.ran(known.key, known.ticks) and not known.why:
                yield (now_s - known.threads_s) / CPU_S, known

    def _unread_placements(self, weighed: Iterable[Known], now_s: float) -> Iterator[tuple[float, Known]]:
        for known in weighed:
            walk = known.walk_s(now_s) > 0
            if known.why or (known.sure_s >= self._glanced_s and not walk):
                continue
            age_s = now_s - (known.placement_s if known.placement else known.seen_s)
            changed = known.may_have_changed(self._trusted.get(known.job), self._migrated_pages)
            if known.then is None:
                yield age_s / FIRST_PLACEMENT_S, known
            elif walk or (known.rested(age_s) and (changed or age_s >= EARLY * PLACEMENT_S)):
                yield age_s / (CHANGED_PLACEMENT_S if changed or walk else PLACEMENT_S), known

    def _read_threads(self, known: Known, now_s: float) -> None:
        began_s = time.thread_time()
        try:
            known.threads = self._cpu_time.read(known.key, known.ticks)
        except (ProcessLookupError, FileNotFoundError):
            del self._known[known.key.pid]
            return
        except (OSError, Malformed) as error:
            known.why, known.retry_s = str(error), now_s + RETRY_S
            return
        known.threads_s, known.threads_cost_s = now_s, time.thread_time() - began_s

    def _read_placements(self, due: list[Known], now_s: float) -> None:
        due = [
            known for known in due if known.key.pid in self._known and not known.why
        ]  # of threads just read
        if not due:
            return
        results = self._workers.run([(known.key, self._placement_task(known, now_s)) for known in due])
        costs_s = [result.cost_s for result in results if isinstance(result, Placement)]
        self._likely_placement_s = median(costs_s) if costs_s else self._likely_placement_s
        rows = sum(known.rows for known in self._known.values())
        for known, result in zip(due, results, strict=True):
            rows -= known.rows
            if isinstance(result, Placement) and rows + result.rows <= MOST_ROWS:
                known.remember(result, now_s)
                rows += known.rows
                page_bytes = self._topology.page_bytes
                known.then = Then(known.stat, self._memory.get(known.job), self._migrated_pages, page_bytes)
            elif isinstance(result, (ProcessLookupError, FileNotFoundError)):
                del self._known[known.key.pid]
            else:
                known.why = _why(result)
                known.retry_s = now_s if isinstance(result, Unfinished) else now_s + RETRY_S
                known.placement = known.then = None

    def _placement_task(self, known: Known, now_s: float) -> Callable[[], Placement | Malformed]:
        same_vmas = known.then is not None and known.then.stat.vsize_bytes == known.stat.vsize_bytes
        vmas = known.placement.vmas if known.placement and same_vmas else None
        walk_s = known.walk_s(now_s)
        if walk_s:
            known.begin_walk(walk_s, now_s)
        return partial(
            self._reader.read,
            known.key,
            known.stat.rss_pages,
            partial(self._small_pages, known),
            vmas,
            learnt=known.placement.learnt if known.placement else None,
            walk=walk_s > 0,
            quiet=known.is_quiet(now_s),
        )

    def _small_pages(self, known: Known) -> int | None:
        """Give an upper bound of pages that are not huge, from the job's charges; None where they are not believed."""
        group = next((group for group in self.jobs.groups if group.cgroup_id == known.job), None)
        if group is None or known.job not in self._trusted:  # the job may have gone since the last glance
            return None
        try:
            text = (group.directories[0] / "memory.stat").read_bytes()
            return cgroup.small_pages_bytes(text) // self._topology.page_bytes
        except (OSError, Malformed):
            return None

    def _members(self, group: LabelledCgroup) -> list[Known]:
        return [self._known[pid] for pid in self.jobs.pids[group.cgroup_id] if pid in self._known]

    def _job(self, group: LabelledCgroup, members: Iterable[Known], now_s: float) -> Job:
        told = (each.told(now_s) for each in members)
        processes = tuple(process for process in told if process)
        memory = self._memory.get(group.cgroup_id)
        job = Job(group.cgroup_id, group.path, group.profile, processes, memory)
        return self.jobs.reported.of(job, now_s)

    def _skipped(self) -> Iterator[Skipped]:
        yield from self._unread.values()
        for known in self._known.values():
            if known.why:
                yield Skipped(known.key, known.stat.comm, known.why)


def _why(result: Placement | Unfinished | OSError | Malformed) -> str:
    """Say why a process is left out of which this came of reading it."""
    if isinstance(result, Placement):
        return f"more than {MOST_ROWS} regions and VMAs of all processes would be remembered"
    return result.value if isinstance(result, Unfinished) else str(result)


def no_room(topology: Topology) -> NodeMemory:
    """Give the memory of nodes of which nothing is known but how large they are: none has anything free."""
    none = np.zeros(len(topology.nodes), np.int64)
    total_bytes = np.array([node.total_bytes for node in topology.nodes], np.int64)
    return NodeMemory(total_bytes, none, none, none, none, none, none)
