# SPDX-License-Identifier: Apache-2.0

"""What a look at a job's counters costs, by its cgroup and by its processes: ``sudo python bench/counters.py``.

Needs root and a cgroup v2 mount; makes cgroups and removes them.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py.kernel import cgroup, node_sysfs, proc_stat
from numad_py.sense.counters import Counters
from tests import builders

JOBS = 40
LOOKS = 50


def main():
    """Print the cost of each way."""
    mount = cgroup.read_mount_point()
    directories = [mount / f"numad-py-counters-{number}" for number in range(JOBS)]
    sleeping = [subprocess.Popen(["sleep", "600"]) for _ in range(JOBS)]
    try:
        jobs = [job(*pair) for pair in zip(directories, sleeping, strict=True)]
        with tempfile.TemporaryDirectory() as no_cgroups:
            measure("by cgroup", jobs, mount)
            measure("by process", jobs, Path(no_cgroups))
    finally:
        for each in sleeping:
            each.kill()
            each.wait()
        time.sleep(0.5)  # the kernel lets go of a cgroup a moment after its last process
        for directory in directories:
            directory.rmdir()


def job(directory, process):
    """Put a process into a cgroup of its own."""
    directory.mkdir()
    (directory / "cgroup.procs").write_text(str(process.pid))
    seen = builders.process(process.pid, start_ticks=proc_stat.read(process.pid).start_ticks)
    return builders.job(seen, cgroup_id=cgroup.cgroup_id(directory), path=f"/{directory.name}")


def measure(way, jobs, mount):
    """Time the look that opens everything, and the quickest of those after it."""
    counters = Counters(node_sysfs.read_topology(), mount=mount)
    opening_s = took_s(counters, jobs)
    look_s = min(took_s(counters, jobs) for _ in range(LOOKS))
    print(
        f"{way}: {opening_s / len(jobs) * 1e6:.0f} us a job to open, {look_s / len(jobs) * 1e6:.1f} us a job "
        f"and look, {counters.descriptors // len(jobs)} descriptors a job"
    )
    counters.close()


def took_s(counters, jobs):
    """Look once."""
    began_s = time.perf_counter()
    counters.look(jobs)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
