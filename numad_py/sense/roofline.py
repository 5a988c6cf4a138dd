# SPDX-License-Identifier: Apache-2.0

"""Say whether memory holds a job back: one that computes gains nothing from moving."""

from typing import Final

# Intel's top-down method flags a program as bound by DRAM when its cores wait for it in more than a tenth of
# their cycles: the MetricThreshold of tma_dram_bound in Linux tools/perf/pmu-events/arch/x86/*/*-metrics.json.
STALLED_ABOVE_SHARE: Final = 0.1

# Memory that is used to 0.7 of its peak answers 1.26 to 1.54 times as late as memory that is idle: Intel's
# Memory Latency Checker on six generations of Xeon, gjbex/Code-optimization info/*_mlc.txt at d917fb8.
BUSY_ABOVE_SHARE: Final = 0.7


def memory_bound(bytes_per_s: float, peak_bytes_per_s: float, stall_share: float | None) -> bool | None:
    """Say whether a job waits for memory; None where that is not known.

    ``bytes_per_s`` may leave out what no event counts (writes, and on some CPUs prefetches): much is
    then still much, but little says nothing. ``peak_bytes_per_s`` is of the nodes the job runs on, 0 where
    it was not measured.
    """
    if bytes_per_s > BUSY_ABOVE_SHARE * peak_bytes_per_s > 0:
        return True
    return None if stall_share is None else stall_share > STALLED_ABOVE_SHARE
