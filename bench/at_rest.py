# SPDX-License-Identifier: Apache-2.0

"""What the daemon costs while 200 labelled processes sleep: ``sudo python bench/at_rest.py``.

Needs root and a cgroup v2 mount; makes one cgroup and removes it.
"""

import os
import subprocess
import sys
import time

import psutil

from numad_py.kernel import cgroup

PROCESSES = 200
SECONDS = 20.0


def main():
    """Print the share of a core and the resident memory."""
    group = cgroup.read_mount_point() / "numad-py-at-rest"
    group.mkdir()
    os.setxattr(group, cgroup.LABEL, b"default")
    sleeping = [subprocess.Popen(["sleep", "600"]) for _ in range(PROCESSES)]
    try:
        for each in sleeping:
            (group / "cgroup.procs").write_text(str(each.pid))
        measure()
    finally:
        for each in sleeping:
            each.kill()
            each.wait()
        time.sleep(0.5)  # the kernel lets go of a cgroup a moment after its last process
        group.rmdir()


def measure():
    """Run the daemon for a while, its start left out."""
    words = [sys.executable, "-m", "numad_py", "daemon"]
    daemon = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    time.sleep(6)
    process = psutil.Process(daemon.pid)
    began_s, began_cpu_s = time.monotonic(), cpu_s(process)
    time.sleep(SECONDS)
    share = (cpu_s(process) - began_cpu_s) / (time.monotonic() - began_s)
    print(
        f"{PROCESSES} labelled processes asleep, a look a second: {share:.1%} of a core, "
        f"{process.memory_info().rss / 2**20:.0f} MB resident"
    )
    daemon.terminate()
    daemon.wait()


def cpu_s(process):
    """Give user and system time."""
    return sum(process.cpu_times()[:2])


if __name__ == "__main__":
    main()
