# SPDX-License-Identifier: Apache-2.0

"""Let the daemon act for hours on a machine where everything changes and breaks, and account for what it did.

    .venv/bin/python -m tests.vm.guest --limit 9000 --bench bench/soak.py --minutes 120
    .venv/bin/python bench/soak.py --minutes 10

The first runs in the two-node guest, where pages and tasks are moved; the second on this machine. It fails unless the
daemon never crashed, its memory stayed within 5 % after the first ten minutes (or half of a shorter run), its descriptors did not grow, every affinity
is what it was, and every page that the kernel migrated is one that the daemon accounts for.
"""

import argparse
import contextlib
import faulthandler
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.churn import Churn
from numad_py import trace
from numad_py.act import price
from numad_py.cli import progress
from numad_py.kernel import cgroup, node_sysfs, vmstat
from numad_py.model import Ending

GOOD = (
    "mode: act\nperiod_s: {period_s}\nprofiles: [default, hold, back-and-forth]\nbudget_core_share: {share}\n"
)
BROKEN = ("mode: atc\n", "period_s: 1e9\n", "profiles: [nonsense]\n", "{", "\0", "mode: act\nmode: act\n")
WARM_S, WARM_SHARE = 600.0, 0.5  # before memory is to be flat: so long, or that share of a short run
KILLS_SHARE = 0.1  # of the time, from the end, in which the daemon is killed now and then
BETWEEN_KILLS_S = 301.0  # so that three never come within ten minutes
SAMPLE_S = 5.0
REST_S, LET_GO_S = 10.0, 60.0
HANGS_S = 120.0  # for one step
SHORTEST_MIN = 2
FLAT = 1.05
UNKNOWN = {Ending.GONE, Ending.UNKNOWN, Ending.STUCK}  # of which not every page can be accounted for


@dataclass
class Supervised:
    """The daemon under test, one after another; what each said and recorded is kept."""

    folder: Path
    dice: random.Random
    process: subprocess.Popen | None = None
    started: int = 0
    killed: int = 0
    died: list[str] = field(default_factory=list)
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)

    @property
    def config(self):
        return self.folder / "numad.yaml"

    def start(self):
        """Start one, and wait until it says so."""
        self.started += 1
        path = self.folder / f"log-{self.started}"
        words = [
            "--config",
            str(self.config),
            "--trace",
            str(self.folder / f"trace-{self.started}.jsonl.zst"),
        ]
        environment = os.environ | {
            name: str(self.folder) for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY")
        }
        with path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.soak_daemon", "daemon", *words], stderr=log, env=environment
            )
        until_s = time.monotonic() + 120
        while "event=started" not in path.read_text():
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"it did not start: {path.read_text()}")
            time.sleep(0.1)

    def configure(self):
        """Write a configuration, and let it be read."""
        text = GOOD.format(period_s=self.dice.choice((0.5, 1.0, 2.0)), share=self.dice.choice((0.05, 0.2)))
        self.config.write_text(
            self.dice.choice(BROKEN) if self.dice.random() < 0.3 and self.process else text
        )
        if self.process:
            self.process.send_signal(signal.SIGHUP)

    def kill(self):
        """Kill it in whatever it is doing, and start the next."""
        self.process.kill()
        self.process.wait()
        self.killed += 1
        self.config.write_text(GOOD.format(period_s=1.0, share=0.1))
        self.start()

    def watch(self):
        """Take its measure; say if it died by itself."""
        if (status := self.process.poll()) is not None:
            self.died.append(f"daemon {self.started} ended with {status}")
            self.config.write_text(GOOD.format(period_s=1.0, share=0.1))
            self.start()
        root = Path(f"/proc/{self.process.pid}")
        fields = dict(line.split(":\t", 1) for line in (root / "status").read_text().splitlines())
        rss_kb, threads = int(fields["VmRSS"].split()[0]), int(fields["Threads"])
        self.samples.append((time.monotonic(), rss_kb, len(list((root / "fd").iterdir())), threads))

    def stop(self):
        """End it in order."""
        self.process.terminate()
        if status := self.process.wait(timeout=60):
            self.died.append(f"told to stop, it ended with {status}")

    def errors(self):
        """Give every line of a traceback, or of a problem of its own."""
        for number in range(1, self.started + 1):
            for line in (self.folder / f"log-{number}").read_text(errors="replace").splitlines():
                if not line.startswith("level="):
                    yield f"log-{number}: {line}"

    def ticks(self):
        """Give every tick of all traces."""
        for number in range(1, self.started + 1):
            with contextlib.suppress(trace.TraceError):  # the last line of a killed one may be half
                yield from trace.read(self.folder / f"trace-{number}.jsonl.zst")[1]

    def outcomes(self):
        """Give every move of pages with what became of it."""
        for tick in self.ticks():
            yield from zip(tick.plan.moves, tick.outcomes, strict=True)

    def moved_threads(self):
        """Give how many threads were given other CPUs."""
        return sum(outcome.moved_threads for tick in self.ticks() for outcome in tick.task_outcomes)


def migrated_pages():
    """Give how many pages the kernel has migrated since boot."""
    return vmstat.counter(Path("/proc/vmstat").read_bytes(), b"pgmigrate_success")


def soak(daemon, churn, seconds):
    """Let everything happen for so long; give the descriptors that it has open with no job before, and after."""
    began_s = time.monotonic()
    kills_s = began_s + seconds * (1 - KILLS_SHARE)
    with progress.bar("soaking", int(seconds), shown=True) as tell:
        before = at_rest(daemon, None)
        happen(daemon, churn, kills_s, tell, kills=False)
        churn.end_all()
        after = at_rest(daemon, before)
        happen(daemon, churn, began_s + seconds, tell, kills=True)
    return before, after


def at_rest(daemon, hoped_for):
    """Give its descriptors once nothing has happened for a while; it may take a minute to notice that jobs are gone."""
    until_s = time.monotonic() + LET_GO_S
    time.sleep(REST_S)
    daemon.watch()
    while hoped_for is not None and daemon.samples[-1][2] > hoped_for and time.monotonic() < until_s:
        time.sleep(1)
        daemon.watch()
    return daemon.samples[-1][2]


def happen(daemon, churn, ends_s, tell, *, kills):
    """Let things happen until then."""
    due_s = dict.fromkeys(
        (daemon.configure, daemon.watch, *([daemon.kill] if kills else [])), time.monotonic()
    )
    pause_s = {
        daemon.configure: (5, 60),
        daemon.watch: (SAMPLE_S, SAMPLE_S),
        daemon.kill: (BETWEEN_KILLS_S, 400),
    }
    while (now_s := time.monotonic()) < ends_s:
        faulthandler.dump_traceback_later(HANGS_S, exit=True)  # says where, rather than nothing for ever
        churn.step()
        for action in [action for action, at_s in due_s.items() if now_s >= at_s]:
            action()
            due_s[action] = now_s + daemon.dice.uniform(*pause_s[action])
        time.sleep(daemon.dice.uniform(0, 1))
        tell(int(time.monotonic()) - int(now_s))
        if int(now_s) // 60 != int(time.monotonic()) // 60:
            print(f"{time.strftime('%H:%M')}  {_line(daemon)}", flush=True)


def _line(daemon):
    _, rss_kb, descriptors, threads = daemon.samples[-1]
    return f"{rss_kb / 1024:.1f} MB  {descriptors} descriptors  {threads} threads"


def flat(samples, began_s, seconds):
    """Give its resident kB between the warm-up and the kills, in medians of eighths."""
    until_s = began_s + seconds * (1 - KILLS_SHARE)
    kept = [each for each in samples if began_s + min(WARM_S, seconds * WARM_SHARE) <= each[0] < until_s]
    parts = [kept[len(kept) * part // 8 : len(kept) * (part + 1) // 8] for part in range(8)]
    return [statistics.median(each[1] for each in part) for part in parts]


def account(daemon, before_pages):
    """Give pages that the kernel migrated, the fewest and the most that are told of, and how moves ended."""
    moves = list(daemon.outcomes())
    moved = sum(outcome.moved_bytes for _, outcome in moves) // 4096
    lost = [move.limit_bytes for move, outcome in moves if outcome.ending in UNKNOWN and outcome.call_s]
    # Each daemon measures the price of moving on pages of its own, whose first trip may be to where they are.
    most = daemon.started * price.PAGES * price.TRIPS if len(node_sysfs.read_topology().nodes) > 1 else 0
    fewest = most // price.TRIPS * (price.TRIPS - 1)
    told = moved + fewest, moved + most + sum(lost) // 4096
    return migrated_pages() - before_pages, told, Counter(str(outcome.ending) for _, outcome in moves)


def judge(daemon, churn, rss_kb, descriptors, before_pages):
    """Print what came of it; give what is wrong, in sentences."""
    migrated, told, endings = account(daemon, before_pages)
    print(f"steps: {dict(sorted(churn.counts.items()))}")
    print(
        f"resident MB: {[round(each / 1024, 1) for each in rss_kb]}; descriptors without a job: {descriptors}"
    )
    print(f"moves: {dict(endings)}; pages: kernel {migrated}, told {told[0]} to {told[1]}")
    print(f"threads moved: {daemon.moved_threads()}")
    print(f"daemons: {daemon.started} started, {daemon.killed} killed")
    yield from daemon.died
    yield from daemon.errors()
    yield from churn.strayed()
    if max(rss_kb) > FLAT * rss_kb[0]:
        yield f"resident memory grew to {max(rss_kb) / rss_kb[0]:.3f} of what it was after the warm-up"
    if descriptors[1] > descriptors[0]:
        yield f"descriptors without a job grew from {descriptors[0]} to {descriptors[1]}"
    if not told[0] <= migrated <= 1.01 * told[1]:
        yield f"the kernel migrated {migrated} pages, of which {told[0]} to {told[1]} are told"


def main():
    """Soak, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what happens when (%(default)s)")
    parser.add_argument("--keep", type=Path, help="where logs and traces go in the end")
    arguments = parser.parse_args()
    if arguments.minutes < SHORTEST_MIN:
        parser.error(f"--minutes: at least {SHORTEST_MIN}, so that memory can be called flat")
    folder = Path(tempfile.mkdtemp(prefix="numad-soak-"))
    dice = random.Random(arguments.seed)
    churn = Churn(cgroup.read_mount_point() / f"soak-{os.getpid()}", dice)
    daemon = Supervised(folder, dice)
    daemon.config.write_text(GOOD.format(period_s=1.0, share=0.1))
    before_pages, seconds = migrated_pages(), arguments.minutes * 60
    try:
        daemon.start()
        began_s = time.monotonic()
        descriptors = soak(daemon, churn, seconds)
        faulthandler.cancel_dump_traceback_later()
        daemon.stop()
        wrong = list(judge(daemon, churn, flat(daemon.samples, began_s, seconds), descriptors, before_pages))
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
        churn.close()
        if arguments.keep:
            no_files = shutil.ignore_patterns("control")  # a socket cannot be copied
            shutil.copytree(folder, arguments.keep, ignore=no_files, dirs_exist_ok=True)
    print("\n".join(wrong) or "well")
    shutil.rmtree(folder)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
