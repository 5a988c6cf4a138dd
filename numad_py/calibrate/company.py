# SPDX-License-Identifier: Apache-2.0

"""How much others used the CPUs while we measured: their memory traffic is in our figures."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class CpuUse:
    """Seconds of CPU time since some moment: all that passed, all that was used, what this process used."""

    passed_s: float
    used_s: float
    own_s: float

    @staticmethod
    def now() -> "CpuUse":
        """Read the counters; time stolen by a hypervisor counts as used."""
        times = psutil.cpu_times()._asdict()
        passed_s = sum(times.values()) - times["guest"] - times["guest_nice"]  # which user and nice hold too
        own = psutil.Process().cpu_times()
        return CpuUse(passed_s, passed_s - times["idle"] - times["iowait"], own.user + own.system)


def others_share(before: CpuUse, after: CpuUse) -> float:
    """Give the part of all CPU time between that was used, and not by us."""
    used_s = after.used_s - before.used_s - (after.own_s - before.own_s)
    return max(0.0, used_s / max(after.passed_s - before.passed_s, 1e-9))
