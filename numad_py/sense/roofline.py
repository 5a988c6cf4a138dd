# SPDX-License-Identifier: Apache-2.0

"""Say whether memory holds a job back: one that computes gains nothing from moving."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from numad_py.kernel.perf_events import CPU_CYCLES
from numad_py.kernel.pmu_events import LINE_BYTES, Row
from numad_py.model import Job, JobCounters
from numad_py.topology import Topology

# Intel's top-down method flags a program as bound by DRAM when its cores wait for it in more than a tenth of
# their cycles: the MetricThreshold of tma_dram_bound in Linux tools/perf/pmu-events/arch/x86/*/*-metrics.json.
STALLED_ABOVE_SHARE: Final = 0.1

# Memory that is used to 0.7 of its peak answers 1.26 to 1.54 times as late as memory that is idle: Intel's
# Memory Latency Checker on six generations of Xeon, gjbex/Code-optimization info/*_mlc.txt at d917fb8.
BUSY_ABOVE_SHARE: Final = 0.7


def memory_bound(
    bytes_per_s: float, peak_bytes_per_s: float, stall_share: float | None, *, stalls_of_dram: bool
) -> bool | None:
    """Say whether a job waits for DRAM; None where that is not known.

    ``bytes_per_s`` may leave out what no event counts (writes, and on some CPUs prefetches): much is
    then still much, but little says nothing. ``peak_bytes_per_s`` is of the nodes the job runs on, 0 where
    it was not measured. Stalls that caches may have caused can only speak against DRAM.
    """
    if bytes_per_s > BUSY_ABOVE_SHARE * peak_bytes_per_s > 0:
        return True
    if stall_share is None:
        return None
    if stall_share <= STALLED_ABOVE_SHARE:
        return False
    return True if stalls_of_dram else None


def place(
    row: Row | None, counts: Mapping[str, float], period_s: float, *, peak_bytes_per_s: float, verified: bool
) -> JobCounters:
    """Say what a job's counts mean on the CPU of this row."""
    if row is None or not {row.local.name, row.remote.name} <= counts.keys():
        return JobCounters(period_s, counts)
    local, remote = row.counts(counts[row.local.name], counts[row.remote.name])
    stall_share = _stall_share(row, counts)
    bytes_per_s = (local + remote) * LINE_BYTES / period_s
    bound = memory_bound(bytes_per_s, peak_bytes_per_s, stall_share, stalls_of_dram=row.stalls_of_dram)
    return JobCounters(period_s, counts, local, remote, stall_share, bound if verified else None, verified)


def peak(job: Job, topology: Topology, peak_bytes_per_s: Mapping[int, float]) -> float:
    """Give what the memory of the nodes that a job ran on gives at most; 0 where that is not known."""
    table = topology.index_of_cpu
    cpus = np.concatenate([np.zeros(0, np.int64), *(process.threads.cpu for process in job.processes)])
    index = np.unique(table[np.minimum(cpus, len(table) - 1)])
    peaks = [peak_bytes_per_s.get(topology.node_ids[at], 0.0) for at in index if at >= 0]
    return sum(peaks) if all(peaks) else 0.0


def _stall_share(row: Row, counts: Mapping[str, float]) -> float | None:
    cycles = counts.get(CPU_CYCLES.name)
    if row.stalls is None or row.stalls.name not in counts or not cycles:
        return None
    return min(counts[row.stalls.name] / cycles, 1.0)
