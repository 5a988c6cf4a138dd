# SPDX-License-Identifier: Apache-2.0

"""How often kernel NUMA balancing scans a process.

Facts are Linux 6.1's, kernel/sched/fair.c, with the defaults of its knobs in debugfs sched/numa_balancing/.

Units: milliseconds as in the kernel, whose division rounds down; MB = 2^20 bytes.
"""

from dataclasses import dataclass
from typing import Final

SCAN_DELAY_MS: Final = 1_000
SCAN_BYTES: Final = 256 << 20  # of one scan: scan_size_mb
PERIOD_MIN_MS: Final = 1_000
PERIOD_MAX_MS: Final = 60_000
MAX_SCAN_WINDOW_MB: Final = 2_560  # a second
SLOTS: Final = 10  # NUMA_PERIOD_SLOTS
THRESHOLD: Final = 7  # NUMA_PERIOD_THRESHOLD
_FLOOR_MS: Final = 1_000 // (MAX_SCAN_WINDOW_MB // (SCAN_BYTES >> 20))


@dataclass(frozen=True)
class Faults:
    """Hint faults of one pass over the address space. Shared ones are of pages that another thread touched last.

    ``failed`` are pages that could not be moved.
    """

    local: float = 0.0
    remote: float = 0.0
    shared: float = 0.0
    private: float = 0.0
    failed: float = 0.0

    def __add__(self, other: "Faults") -> "Faults":
        return Faults(
            self.local + other.local,
            self.remote + other.remote,
            self.shared + other.shared,
            self.private + other.private,
            self.failed + other.failed,
        )


def least_ms(resident_bytes: float) -> int:
    """Give task_scan_min(): all of the process in a second, but no more than 2,560 MB/s."""
    return max(_FLOOR_MS, PERIOD_MIN_MS // _windows(resident_bytes))


def most_ms(resident_bytes: float, threads: int, shared_share: float) -> int:
    """Give task_scan_max(); threads that share memory are one group, each of which waits for all others."""
    longest_ms = PERIOD_MAX_MS // _windows(resident_bytes)
    if threads > 1:
        longest_ms = max(longest_ms, int(longest_ms * threads * shared_share))
    return max(least_ms(resident_bytes), longest_ms)


def adapted_ms(period_ms: int, faults: Faults, least: int, most: int) -> int:
    """Give update_task_scan_period(): slower where faults are private or local, else faster.

    It doubles where pages could not be moved, and, as written, where all faults are remote and private.
    """
    if int(faults.local + faults.shared) == 0 or faults.failed >= 1:
        return min(most, 2 * period_ms)
    slot_ms = -(-period_ms // SLOTS)
    local = int(faults.local * SLOTS / (faults.local + faults.remote))
    private = int(faults.private * SLOTS / (faults.private + faults.shared))
    for ratio in (private, local):
        if ratio >= THRESHOLD:
            period_ms += max(ratio - THRESHOLD, 1) * slot_ms
            break
    else:
        period_ms -= (THRESHOLD - max(local, private)) * slot_ms
    return min(max(period_ms, least), most)


def _windows(resident_bytes: float) -> int:
    return max(1, -(-int(resident_bytes) // SCAN_BYTES))
