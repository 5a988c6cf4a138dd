# SPDX-License-Identifier: Apache-2.0

"""What the daemon costs beside 200 labelled processes of 16 threads and 300 regions: ``sudo python bench/at_rest.py``.

Most of them sleep; a few use a part of a core. Beside it stand one pass of ``numastat -p``
over the same processes and the first reading of all their numa_maps. Needs root, numactl and a
cgroup v2 mount; makes cgroups below ``numad-py-at-rest`` and removes them.
"""

import argparse
import contextlib
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from numad_py.kernel import cgroup

THREADS = 16
REGIONS = 300
REGION_BYTES = 32 << 10
WARM_UP_S = 20.0


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument(
        "--busy", type=int, default=8, help="processes of which one thread uses a hundredth of a core"
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--period", type=float, default=1.0)
    parser.add_argument("--numad", action="store_true", help="measure Debian's numad, with its defaults, too")
    return parser.parse_args()


def live(busy):
    """Be one of the processes: 300 regions, touched, and 16 threads; ends with its parent."""
    kept = []
    for number in range(REGIONS):
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if number % 2 else mmap.PROT_WRITE | mmap.PROT_EXEC)
        kept.append(mmap.mmap(-1, REGION_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=prot))
        kept[-1][::4096] = b"1" * (REGION_BYTES // 4096)
    for _ in range(THREADS - 1):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    while True:
        if busy:
            began_s = time.thread_time()
            while time.thread_time() - began_s < 0.01:
                pass
        time.sleep(1.0 if busy else 3600.0)


def start(busy):
    """Fork one of the processes."""
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        live(busy)
    return pid


@contextlib.contextmanager
def labelled(count, jobs, busy):
    """Give the processes' numbers, spread over labelled cgroups."""
    top = cgroup.read_mount_point() / "numad-py-at-rest"
    groups = [top / f"job-{number}" for number in range(jobs)]
    for group in groups:
        group.mkdir(parents=True)
        os.setxattr(group, cgroup.LABEL, b"default")
    pids = [start(number < busy) for number in range(count)]
    try:
        for number, pid in enumerate(pids):
            (groups[number % jobs] / "cgroup.procs").write_text(str(pid))
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        time.sleep(0.5)  # the kernel lets go of a cgroup a moment after its last process
        for group in [*groups, top]:
            group.rmdir()


def cpu_s_of(words):
    """Run a command; give the CPU time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def numad_share(seconds):
    """Give the share of a core that numad takes with its defaults; it makes itself a daemon."""
    subprocess.run(["numad"], check=True)
    (numad,) = (each for each in psutil.process_iter(["name"]) if each.info["name"] == "numad")
    try:
        return share_of(numad, seconds)
    finally:
        numad.terminate()


def share_of(process, seconds):
    """Give the share of a core that a process takes after its start."""
    time.sleep(WARM_UP_S)
    began_s, began_cpu_s = time.monotonic(), sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - began_cpu_s) / (time.monotonic() - began_s)


def measure(seconds, period_s):
    """Run the daemon for a while, its start left out: its share of a core, its memory, its last words of itself."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "numad.yaml"
        config.write_text(f"period_s: {period_s}\n")
        words = [sys.executable, "-m", "numad_py", "daemon", "--config", str(config)]
        daemon = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        process = psutil.Process(daemon.pid)
        share = share_of(process, seconds)
        resident_mb = process.memory_info().rss / 2**20
        daemon.terminate()
        daemon.wait()
    return share, resident_mb


def main():
    """Print it all."""
    said = arguments()
    with labelled(said.processes, said.jobs, said.busy) as pids:
        time.sleep(5)
        one_pass_s = cpu_s_of(["numastat", "-p", *map(str, pids)])
        share, resident_mb = measure(said.seconds, said.period)
        beside = f", numad {numad_share(said.seconds):.2%} of a core" if said.numad else ""
    print(
        f"{said.processes} labelled processes of {THREADS} threads and {REGIONS} regions, {said.busy} of them busy, "
        f"{said.seconds:.0f} s: the daemon {share:.2%} of a core, {resident_mb:.0f} MB resident; "
        f"one pass of numastat -p {one_pass_s:.2f} s of CPU{beside}"
    )


if __name__ == "__main__":
    main()
