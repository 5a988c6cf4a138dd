# SPDX-License-Identifier: Apache-2.0

"""What the daemon costs beside 200 labelled processes of 16 threads and 300 regions, and how fresh what it knows is.

``sudo .venv/bin/python bench/at_rest.py`` measures its cost, and in a second run, which records a trace, how old
things get while some of the processes become late-bound one by one. Needs root, numactl and a cgroup v2 mount; makes
cgroups below ``numad-py-at-rest`` and removes them. Exits with 1 where something is older than it may be.

With ``--numad`` Debian's numad is beside it, which wants two nodes. In a guest, some 15 times slower, the ratio tells:
``.venv/bin/python -m tests.vm.guest --guest two-nodes --bench bench/at_rest.py --numad --processes 40 --late 3
--seconds 60 --budget 0.15``.
"""

import argparse
import contextlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.crowd import LATE_BYTES, REGIONS, THREADS, labelled
from numad_py import trace
from numad_py.kernel import cgroup
from numad_py.sense import opt_in
from numad_py.sense.opt_in import Rules

WARM_UP_S = 20.0
END_S = 30.0  # for a daemon, until it is killed

PLACEMENT_S, CPU_S, FOUND_S = 60.0, 5.0, 15.0  # the oldest that there may be


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--busy", type=int, default=8, help="processes that use a hundredth of a core")
    parser.add_argument("--late", type=int, default=5, help="others, that become late-bound one by one")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each run, after 20 s to warm up")
    parser.add_argument("--period", type=float, default=1.0, help="of the looks, in seconds")
    parser.add_argument("--budget", type=float, default=0.01, help="the daemon's budget_core_share")
    parser.add_argument("--numad", action="store_true", help="measure Debian's numad, with its defaults, too")
    said = parser.parse_args()
    if said.busy + said.late > said.processes:
        parser.error("--busy and --late together are more than --processes")
    if said.numad and not shutil.which("numad"):
        parser.error("--numad: apt-get install numad; where that starts it: systemctl disable --now numad")
    return said


@dataclass(frozen=True)
class Cost:
    """What something took: of a core, and of memory."""

    share: float
    resident_mb: float

    def __str__(self):
        return f"{self.share:.3%} of a core, {self.resident_mb:.0f} MB resident"


@dataclass(frozen=True)
class Running:
    """What runs in a cgroup of its own."""

    group: Path

    @property
    def processes(self):
        """All that is there."""
        return [psutil.Process(int(pid)) for pid in (self.group / "cgroup.procs").read_text().split()]

    @property
    def cpu_s(self):
        """CPU time so far, to the microsecond: numad takes less than a clock tick at a time."""
        words = (self.group / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6

    def cost(self, seconds):
        """Measure for a while."""
        began_s, began_cpu_s = time.monotonic(), self.cpu_s
        time.sleep(seconds)
        share = (self.cpu_s - began_cpu_s) / (time.monotonic() - began_s)
        return Cost(share, sum(process.memory_info().rss for process in self.processes) / 2**20)

    def end(self):
        """End all that is there."""
        for process in self.processes:
            process.terminate()
        until_s = time.monotonic() + END_S
        while self.processes:
            if time.monotonic() > until_s:
                raise SystemExit(f"{self.processes} did not end in {END_S:.0f} s; it is in {self.group}")
            time.sleep(0.1)


@contextlib.contextmanager
def started(group, words, log):
    """Run a command, and what it makes of itself, until the end of the block."""
    group.mkdir()
    enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *words]
    with log.open("wb") as lines:
        child = subprocess.Popen(enter, stderr=lines)
    running = Running(group)
    try:
        yield running
    finally:
        running.end()
        child.wait()
        time.sleep(0.5)  # as in crowd.py
        group.rmdir()


@contextlib.contextmanager
def warm_daemon(group, said, *options):
    """Run the daemon, warmed up, in folders of its own as systemd would: with metrics."""
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "numad.yaml", Path(folder) / "log"
        config.write_text(f"period_s: {said.period}\nbudget_core_share: {said.budget}\n")
        folders = [f"{name}={folder}" for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY")]
        command = [sys.executable, "-m", "numad_py", "daemon", "--config", str(config), *options]
        words = ["env", *folders, *command]
        with started(group, words, log) as running:
            while "event=started" not in (lines := log.read_text()):
                if lines and not running.processes:
                    raise SystemExit(f"the daemon ended: {lines}")
                time.sleep(0.1)
            time.sleep(WARM_UP_S)
            yield running


@contextlib.contextmanager
def warm_numad(group):
    """Run Debian's numad with its defaults, warmed up; it makes itself a daemon."""
    with tempfile.NamedTemporaryFile() as log, started(group, ["numad"], Path(log.name)) as running:
        time.sleep(WARM_UP_S)
        if not running.processes:
            raise SystemExit(
                "numad has ended; it runs on two nodes or more, and /var/log/numad.log says more"
            )
        yield running


def cpu_s_of(words):
    """Run a command; give the CPU time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def costs(top, said, members):
    """Print what the daemon takes, and beside it what its peers take."""
    turn_ns = timeit.timeit("pass", number=10**7) * 100
    print(
        f"{said.processes} labelled processes of {THREADS} threads and {REGIONS} regions, {said.busy} of them busy, "
        f"{said.seconds:.0f} s; a machine on which a turn of an empty loop takes Python {turn_ns:.0f} ns"
    )
    numastat_s = cpu_s_of(["numastat", "-p", *(str(member.pid) for member in members)])
    with warm_daemon(top / "daemon", said) as daemon:
        ours = daemon.cost(said.seconds)
    print(f"  the daemon, a look in {said.period:g} s, budget {said.budget:g}: {ours}")
    if said.numad:
        with warm_numad(top / "numad") as numad:
            peer = numad.cost(said.seconds)
        print(
            f"  numad, its defaults: {peer}; the daemon takes {ours.share / peer.share:.1f} times as much CPU"
        )
    print(f"  one pass of numastat -p: {numastat_s:.2f} s of CPU", flush=True)


@dataclass
class Freshness:
    """How old things got in a recording, from ``warm_s`` on; ``complete_s`` is when a look first told of all."""

    warm_s: float
    complete_s: float = float("inf")
    told: list[int] = field(default_factory=list)  # processes of a look
    others: list[int] = field(default_factory=list)  # that were labelled by somebody else
    postponed: list[int] = field(default_factory=list)
    core_share: float = 0.0
    placement_s: float = 0.0
    cpu_s: float = 0.0
    late: dict[int, list[tuple]] = field(default_factory=dict)  # by PID: each look since it was late-bound

    def take(self, tick, members):
        """Take in one look."""
        snapshot = tick.snapshot
        ours = [process for process in snapshot.processes if process.key.pid in members]
        if len(ours) == len(members):
            self.complete_s = min(self.complete_s, snapshot.time_s)
        if snapshot.time_s < self.warm_s:
            return
        self.told.append(len(ours))
        self.others.append(len(snapshot.processes) - len(ours))
        self.postponed.append(len(snapshot.cost.postponed))
        self.core_share = max(self.core_share, snapshot.cost.core_share)
        wished = {move.process for move in tick.plan.moves}
        for process in ours:
            member = members[process.key.pid]
            since_s = snapshot.time_s - member.since_s
            self.placement_s = max(self.placement_s, process.placement_age_s)
            if member.busy or since_s >= 0:
                self.cpu_s = max(self.cpu_s, process.cpu_age_s)
            if since_s >= 0:
                self.late.setdefault(member.pid, []).append((since_s, process, process.key in wished))

    def found_s(self, member):
        """Give after how long its new memory had been seen, and where it runs now."""
        looks = self.late.get(member.pid, [])
        memory = [process.regions.resident_bytes.sum(axis=1).max() >= LATE_BYTES for _, process, _ in looks]
        runs = [not member.later_cpus.isdisjoint(process.threads.cpu.tolist()) for _, process, _ in looks]
        return max(_first(looks, memory), _first(looks, runs))

    def wished_s(self, member):
        """Give after how long a move of it was wished for."""
        looks = self.late.get(member.pid, [])
        return _first(looks, [wished for _, _, wished in looks])


def _first(looks, are_so):
    """Give the time of the first look that is so, or infinity."""
    return next(
        (since_s for (since_s, _, _), is_so in zip(looks, are_so, strict=True) if is_so), float("inf")
    )


def recorded(top, said, members):
    """Record while processes become late-bound one by one; give how fresh it all was."""
    late = members[said.busy :][: said.late]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl.zst"
        with warm_daemon(top / "daemon", said, "--trace", str(path)):
            warm_s = time.monotonic()
            for member in late:
                time.sleep(said.seconds / (said.late + 1))
                member.become_late_bound()
            time.sleep(said.seconds / (said.late + 1))
        freshness, by_pid = Freshness(warm_s), {member.pid: member for member in members}
        for tick in trace.read(path)[1]:
            freshness.take(tick, by_pid)
    return freshness, late


def shown(freshness, late, count):
    """Print it; say whether all is as fresh as it should be."""
    found_s = [freshness.found_s(member) for member in late]
    wished_s = [freshness.wished_s(member) for member in late]
    told, postponed = freshness.told, freshness.postponed
    print(
        f"told of all {WARM_UP_S + freshness.complete_s - freshness.warm_s:.0f} s after the start; from {WARM_UP_S:.0f} s on, "
        f"in {len(told)} looks, which told of {min(told)} to {max(told)} of them, and of up to {max(freshness.others)} others:\n"
        f"  oldest placement: {freshness.placement_s:.1f} s (at most {PLACEMENT_S:.0f})\n"
        f"  oldest CPU time of one that runs: {freshness.cpu_s:.1f} s (at most {CPU_S:.0f})\n"
        f"  late-bound ones found after {seconds(found_s)} (at most {FOUND_S:.0f}), moves wished for after {seconds(wished_s)}\n"
        f"  postponed in a look: {statistics.median(postponed):.0f} processes at the median, {max(postponed)} at most\n"
        f"  the looks of a minute: {freshness.core_share:.2%} of a core at most"
    )
    fresh = freshness.placement_s <= PLACEMENT_S and freshness.cpu_s <= CPU_S
    return fresh and min(told) == count and max(found_s, default=0.0) <= FOUND_S


def seconds(times_s):
    """Write them down; what never came to pass is a dash."""
    return ", ".join("–" if each == float("inf") else f"{each:.1f} s" for each in times_s)


def main():
    """Print it all; exit 1 where something is older than it may be."""
    said = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it too ends what was started
    mount = cgroup.read_mount_point()
    for job in opt_in.assign(cgroup.walk(mount), mount, Rules()).jobs:
        raise SystemExit(
            f"the daemon would look at {job.path} too, which is labelled: wait, or take its label off"
        )
    top = mount / "numad-py-at-rest"
    with labelled(top, said.processes, said.jobs, said.busy) as members:
        time.sleep(5)
        costs(top, said, members)
        sys.exit(not shown(*recorded(top, said, members), said.processes))


if __name__ == "__main__":
    main()
