# SPDX-License-Identifier: Apache-2.0

"""Find out which threads touch which memory, by samples, for as long as it is asked for.

Problem: samples cost the job time, and a job that takes a million page faults a second must not
notice that somebody looks.
Primitive: an event that the kernel itself switches off after so many samples, and a ring to read.
Application: in short windows each event may take a few; between them the rate is set anew, and where
the job pays too much, no event is open for a while.
"""

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from numad_py.kernel import Malformed, proc_stat, vmstat
from numad_py.kernel.perf_ring import record_type
from numad_py.model import Accesses, AccessSource, Process, ProcessKey, Topology
from numad_py.sense.access_regions import Samples, counts, cut, groups, within
from numad_py.sense.access_sources import Source
from numad_py.sense.open_events import OpenEvents, Taken
from numad_py.sense.sampling_plan import Opening, limits, plan
from numad_py.sense.sampling_rate import WINDOW_S, Window, pause_s

_MOST_SAMPLES = 1 << 20  # 24 MB
# The first event of its kind makes the kernel patch its fault path (static_key_slow_inc() in perf_swevent_init(),
# kernel/events/core.c), the last one patches it back: that interrupts every CPU, and so must not happen often.
_LEAST_PAUSE_S = 0.5
_SAMPLE = np.dtype([("pid", "<i4"), ("tid", "<i4"), ("cpu", "<i4"), ("address", "<u8")])
_HINT_FAULTS = b"numa_hint_faults"


class AccessSampler:
    """Samples the accesses of some processes until it is stopped, in a thread of its own.

    ``budget_share`` of one core is what reading may take, ``job_share`` what the busiest thread may lose.
    ``opening`` tells what is taken for it, ``cost_s`` the CPU time spent so far, ``problems`` what went
    wrong, in sentences. ``taken`` samples were read, accesses or not; ``seen`` estimates how many accesses the
    processes made that the source could have told of.
    """

    def __init__(
        self,
        topology: Topology,
        source: Source,
        *,
        budget_share: float = 0.1,
        job_share: float = 0.003,
        root: Path = Path("/"),
    ) -> None:
        self._topology, self._source, self._root = topology, source, root
        self._budget_share, self._job_share = budget_share, job_share
        self._stopping = threading.Event()
        self._watcher: ThreadPoolExecutor | None = None
        self._watching: Future[None] | None = None
        self._events: OpenEvents | None = None
        self._cgroup: int | None = None
        self._opened_s = 0.0
        self.opening: Opening | None = None
        self.cost_s = 0.0
        self.problems: list[str] = []

    def start(self, processes: Sequence[Process], cgroup: Path | None = None) -> None:
        """Begin to sample; ``cgroup`` is a directory that holds all of the processes, where there is one."""
        self.stop()
        self._processes = tuple(processes)
        self._pids = np.unique([process.key.pid for process in processes]).astype(np.int32)
        self._kept: list[np.ndarray[tuple[int], np.dtype[np.void]]] = []
        self._rate = self._source.rate
        self._began_s, self._watched_s, self._job_cost_s = time.monotonic(), 0.0, 0.0
        self._count, self.taken, self.seen, self._variance = 0, 0, 0, 0.0
        self._hint_faults = self._kernel_hint_faults()
        self._stopping.clear()
        if cgroup is not None:
            self._cgroup = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.opening = self._plan()
        self._open()
        self._watcher = ThreadPoolExecutor(1, "access-sampler")
        self._watching = self._watcher.submit(self._watch)

    def stop(self) -> None:
        """End sampling and let go of all it took; what was seen can still be collected. Safe to call twice."""
        self._stopping.set()
        if self._watcher is not None and self._watching is not None:
            self._watcher.shutdown()
            watching, self._watcher, self._watching = self._watching, None, None
            watching.result()

    def collect(self) -> dict[ProcessKey, Accesses]:
        """Give what was seen since the start, by process; nothing of those that are gone, or not to be believed."""
        began_s = time.thread_time()
        kept = np.concatenate([np.zeros(0, _SAMPLE), *tuple(self._kept)])
        kept = kept[np.argsort(kept["pid"], kind="stable")]
        found = {
            process.key: accesses
            for process in self._processes
            if self._is_same(process) and (accesses := self._accesses(process, kept)) is not None
        }
        self.cost_s += time.thread_time() - began_s
        return found if self._is_plausible() else {}

    def _plan(self) -> Opening:
        threads = [process.threads for process in self._processes]
        tid = np.concatenate([np.zeros(0, np.int64), *(each.tid for each in threads)])
        cpu_s = np.concatenate([np.zeros(0), *(each.cpu_s for each in threads)])
        cpus = tuple(cpu for node in self._topology.nodes for cpu in node.cpus)
        kind = record_type(self._source.fields, raw_bytes=self._source.raw_bytes)
        return plan(
            tuple(tid[np.argsort(-cpu_s, kind="stable")].tolist()),
            cpus if self._cgroup is not None else (),
            limits(len(cpus), self._root),
            record_bytes=kind.itemsize,
            page_bytes=self._topology.page_bytes,
        )

    def _watch(self) -> None:
        """Sample until told to stop."""
        try:
            wait_s = WINDOW_S
            while not self._stopping.wait(wait_s):
                wait_s = self._turn()
        finally:
            self._close()
            if self._cgroup is not None:
                os.close(self._cgroup)
                self._cgroup = None

    def _turn(self) -> float:
        """Do what is due, and give how long to wait before the next turn."""
        if self._events is None:
            self._open()
            return WINDOW_S
        now_s, before_s = time.monotonic(), time.thread_time()
        taken = self._events.take()
        self._keep(taken)
        length_s, self._opened_s = now_s - self._opened_s, now_s
        spent_s = time.thread_time() - before_s
        self.cost_s += spent_s
        seen_share = min(max((taken.until_s - now_s) / length_s + 1, 0.0), 1.0)
        return self._set_rate(Window(taken.busiest, taken.lost, spent_s, length_s, seen_share))

    def _open(self) -> None:
        assert self.opening is not None  # noqa: S101 - start() planned it
        before_s = time.thread_time()
        self._events = OpenEvents(self._source, self.opening, self._cgroup, self._rate.period)
        self._opened_s = time.monotonic()
        self.cost_s += time.thread_time() - before_s
        if failed := self._events.failed:
            self.problems.append(
                f"{len(self._events)} of {len(self.opening.events)} events of {self._source.kind} could be opened: {failed}"
            )
        if not len(self._events):
            self._end(f"nothing to sample {self._source.kind} on")

    def _keep(self, taken: Taken) -> None:
        if taken.lost:
            return
        self.taken += len(taken.samples)
        samples = taken.samples[self._source.accessed(taken.samples)]
        samples = samples[np.isin(samples["pid"], self._pids)]
        period = self._rate.period
        self.seen += len(samples) * period
        self._variance += len(samples) * period**2
        self._kept.append(samples[list(_SAMPLE.names or ())].astype(_SAMPLE))
        self._count += len(samples)
        if self._count > _MOST_SAMPLES:
            self._end(f"stopped after {_MOST_SAMPLES} samples, which are enough")

    def _set_rate(self, window: Window) -> float:
        period = self._rate.period
        self._rate = self._rate.after(window, budget_share=self._budget_share)
        if not window.lost:
            self._watched_s += window.length_s * window.seen_share
        if self._rate.hopeless:
            return self._end(f"records of {self._source.kind} were lost again and again: too many to read")
        self._job_cost_s += window.samples * (period * self._source.counted_s + self._source.sampled_s)
        passed_s = time.monotonic() - self._began_s
        if (pause := pause_s(self._job_cost_s, passed_s, job_share=self._job_share)) > WINDOW_S:
            self._close()
            return max(pause, _LEAST_PAUSE_S)
        if self._events is not None and self._rate.period != period:
            self._events.set_period(self._rate.period)
        return WINDOW_S

    def _end(self, why: str) -> float:
        self.problems.append(why)
        self._stopping.set()
        return 0.0

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _accesses(self, process: Process, kept: np.ndarray[tuple[int], np.dtype[np.void]]) -> Accesses | None:
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
        return Accesses(self._source.kind, made, start, end, counted, None, self._watched_s)

    def _is_same(self, process: Process) -> bool:
        try:
            return proc_stat.read(process.key.pid, self._root).start_ticks == process.key.start_ticks
        except (FileNotFoundError, ProcessLookupError, Malformed):
            return False

    def _is_plausible(self) -> bool:
        """Say whether the kernel made as many hint faults as we claim to have seen some of."""
        if self._source.kind != AccessSource.HINT_FAULTS:
            return True
        made = self._kernel_hint_faults() - self._hint_faults
        if self.seen - 3 * self._variance**0.5 <= made:
            return True
        self.problems.append(f"{self.seen} hint faults estimated, but the kernel made {made}: not believed")
        return False

    def _kernel_hint_faults(self) -> int:
        return vmstat.counter((self._root / "proc/vmstat").read_bytes(), _HINT_FAULTS)
