# SPDX-License-Identifier: Apache-2.0

"""Find out which threads touch which memory, by samples, for as long as it is asked for.

Problem: samples cost the job time, and a job that takes a million page faults a second must not
notice that somebody looks.
Primitive: an event that the kernel itself switches off after so many samples, and a ring to read.
Application: in short windows each event may take a few; between them the rate is set anew, and where
the job pays too much, no event is open for a while.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import Malformed, proc_stat, vmstat
from numad_py.kernel.perf_ring import record_type
from numad_py.model import Accesses, AccessSource, Process, ProcessKey
from numad_py.sense.investigate.access_regions import Samples, counts, cut, groups, within
from numad_py.sense.investigate.access_sources import Source
from numad_py.sense.investigate.sampling_plan import Opening, limits, plan
from numad_py.sense.investigate.sampling_rate import LEAST_WINDOW_S
from numad_py.sense.investigate.sampling_run import KEPT, SamplingRun, Seen
from numad_py.topology import Topology


class AccessSampler:
    """Samples the accesses of some processes until it is stopped, in a thread of its own.

    ``budget_share`` of one core is what reading may take, ``job_share`` what the busiest thread may lose.
    ``opening`` tells what is taken for it, ``seen`` what it brought and cost.
    """

    def __init__(
        self,
        topology: Topology,
        source: Source,
        *,
        budget_share: float = 0.1,
        job_share: float = 0.002,
        root: Path = Path("/"),
    ) -> None:
        self._topology, self._source, self._root = topology, source, root
        self._budget_share, self._job_share = budget_share, job_share
        self._stopping = threading.Event()
        self._watcher: ThreadPoolExecutor | None = None
        self._watching: Future[None] | None = None
        self._processes: tuple[Process, ...] = ()
        self._hint_faults = 0
        self.opening: Opening | None = None
        self.seen = Seen()

    @property
    def sees_shared(self) -> bool:
        """Whether what processes share is seen as all else is.

        Balancing makes no hint faults in copy-on-write pages that several processes map, nor in files that are mapped
        to be read only: change_pte_range() in mm/mprotect.c and task_numa_work() in kernel/sched/fair.c.
        """
        return self._source.kind != AccessSource.HINT_FAULTS

    @property
    def cost_s(self) -> float:
        """CPU seconds that this sampling has taken of ours."""
        return self.seen.cost_s

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong, in sentences."""
        return tuple(self.seen.problems)

    def start(self, processes: Sequence[Process], cgroup: Path | None = None) -> bool:
        """Begin to sample, and say whether anything can be; ``cgroup`` is a directory that holds all of the processes, where there is one.

        Raises FileNotFoundError where that directory is gone. When this returns, the events are open.
        """
        self.stop()
        self._processes = tuple(processes)
        self._hint_faults = self._kernel_hint_faults()
        self._stopping.clear()
        self.opening = self._plan(by_cgroup=cgroup is not None)
        run = SamplingRun(
            self._source,
            self.opening,
            np.array([process.key.pid for process in processes], np.int64),
            cgroup=cgroup,
            budget_share=self._budget_share,
            job_share=self._job_share,
        )
        self.seen = run.seen
        self._watcher = ThreadPoolExecutor(1, "access-sampler")
        self._watching = self._watcher.submit(self._watch, run)
        return bool(self.opening.events)

    def stop(self) -> None:
        """End sampling and let go of all it took; what was seen can still be collected. Safe to call twice."""
        self._stopping.set()
        if self._watcher is not None and self._watching is not None:
            self._watcher.shutdown()
            watching, self._watcher, self._watching = self._watching, None, None
            watching.result()

    def is_settled(self) -> bool:
        """Say that it never is: more samples tell more."""
        return False

    def collect(self) -> dict[ProcessKey, Accesses]:
        """Give what was seen since the start, by process; nothing of those that are gone, or not to be believed."""
        before_s = time.thread_time()
        kept = np.concatenate([np.zeros(0, KEPT), *tuple(self.seen.chunks)])
        kept = kept[np.argsort(kept["pid"], kind="stable")]
        found = {
            process.key: accesses
            for process in self._processes
            if self._is_same(process) and (accesses := self._accesses(process, kept)) is not None
        }
        self.seen.cost_s += time.thread_time() - before_s
        return found if self._is_plausible() else {}

    def _plan(self, *, by_cgroup: bool) -> Opening:
        threads = [process.threads for process in self._processes]
        tid = np.concatenate([np.zeros(0, np.int64), *(each.tid for each in threads)])
        cpu_s = np.concatenate([np.zeros(0), *(each.cpu_s for each in threads)])
        cpus = tuple(cpu for node in self._topology.nodes for cpu in node.cpus)
        kind = record_type(self._source.fields, raw_bytes=self._source.raw_bytes)
        return plan(
            tuple(tid[np.argsort(-cpu_s, kind="stable")].tolist()),
            cpus if by_cgroup else (),
            limits(len(cpus), self._root),
            record_bytes=kind.itemsize,
            page_bytes=self._topology.page_bytes,
        )

    def _watch(self, run: SamplingRun) -> None:
        """Sample until told to stop, or until the run is over."""
        try:
            wait_s = LEAST_WINDOW_S
            while not run.over and not self._stopping.wait(wait_s):
                wait_s = run.turn()
        finally:
            run.close()

    def _accesses(self, process: Process, kept: NDArray[np.void]) -> Accesses | None:
        first, last = np.searchsorted(kept["pid"], [process.key.pid, process.key.pid + 1])
        rows = kept[first:last]
        own = Samples(rows["address"].copy(), rows["tid"].astype(np.int64), rows["cpu"].astype(np.int64))
        resident = process.regions.take(process.regions.pages.sum(axis=1) > 0)
        samples = within(own, resident)
        made, group = groups(samples, process, self._topology)
        samples, group = samples.take(group >= 0), group[group >= 0]
        if not len(samples):
            return None
        start, end = cut(samples.address, resident.start, resident.end)
        counted = counts(samples.address, group, start, len(made))
        return Accesses(self._source.kind, made, start, end, counted, None, self.seen.watched_s)

    def _is_same(self, process: Process) -> bool:
        try:
            return proc_stat.read(process.key.pid, self._root).start_ticks == process.key.start_ticks
        except (FileNotFoundError, ProcessLookupError, Malformed):
            return False

    def _is_plausible(self) -> bool:
        """Say whether the kernel made as many hint faults as we claim to have seen some of."""
        if self._source.kind != AccessSource.HINT_FAULTS:
            return True
        made, estimated = self._kernel_hint_faults() - self._hint_faults, self.seen.accesses
        if estimated - 3 * self.seen.variance**0.5 <= made:
            return True
        self.seen.problems.append(f"{estimated} hint faults estimated, {made} made: not believed")
        return False

    def _kernel_hint_faults(self) -> int:
        return vmstat.counter((self._root / "proc/vmstat").read_bytes(), b"numa_hint_faults")
