# SPDX-License-Identifier: Apache-2.0

"""Withhold a seeded share of late-bound jobs in a guest, and record what its access counter says of all of them.

    .venv/bin/python -m tests.vm.guest --guest two-nodes --count-accesses --bench bench/withheld_in_guests.py --jobs 40
    .venv/bin/numad-py train build/guest/two-nodes/withheld.jsonl.zst --split withheld.split.json --write-split

One job runs at a time, so that what the counter counts is that job's, and of the daemon and this program, which use
little. The recording is the daemon's own, with the counts added where a machine's counters would stand.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import profiles, trace
from numad_py.learn.withheld import Effect
from numad_py.model import JobCounters
from tests.vm.access_counts import AccessCounts
from tests.vm.cells import DAEMON
from tests.vm.forked import Forked
from tests.vm.guests import BY_NAME
from tests.vm.nine import NINE, running
from tests.vm.service import Daemon

LABEL = "withholding"
RECORDED = "withheld.jsonl.zst"
COUNTED_EVERY_S = 0.25


class Watch:
    """What was local and what remote since power-on, by time, while it was open."""

    def __init__(self, guest):
        self._guest, self._done = guest, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._seen = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(COUNTED_EVERY_S):
            by_node = AccessCounts.read(self._guest).by_node
            self._seen.append((time.monotonic(), by_node.trace(), by_node.sum() - by_node.trace()))

    def between(self, *times_s):
        """Give what was local and what remote between two times; to be asked when it is closed."""
        at_s, *columns = np.array(self._seen, np.float64).T
        return [float(np.diff(np.interp(times_s, at_s, column))[0]) for column in columns]


def write_profile(folder, share):
    """Write `learned` as it is shipped, but for the share that is withheld."""
    shipped = next(path for place in profiles.PLACES if (path := place / "learned.yaml").exists()).read_text()
    assert "withheld_share: 0 " in shipped
    folder.mkdir(parents=True)
    (folder / f"{LABEL}.yaml").write_text(shipped.replace("withheld_share: 0 ", f"withheld_share: {share} "))


def counted(before, now, watch):
    """Give a tick in which the one job that there is has what was counted since the tick before."""
    jobs = now.snapshot.jobs
    if len(jobs) != 1:
        return now
    period_s = now.snapshot.time_s - before.snapshot.time_s
    local, remote = watch.between(before.snapshot.time_s, now.snapshot.time_s)
    counters = JobCounters(period_s, {}, local, remote, verified=True)
    return replace(now, snapshot=replace(now.snapshot, jobs=(replace(jobs[0], counters=counters),)))


def main():
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=40, help="how many, one after another (%(default)s)")
    parser.add_argument("--seconds", type=float, default=12.0, help="that each is counted (%(default)s)")
    parser.add_argument("--share", type=float, default=0.2, help="that is withheld (%(default)s)")
    said = parser.parse_args()
    guest, workload = BY_NAME[os.environ["NUMAD_VM_TESTS"]], replace(NINE["late-bound"], mb=100)
    out = Path(os.environ["NUMAD_VM_FOLDER"]) / RECORDED
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "daemon"
        folder.mkdir()
        write_profile(folder.parent / "state" / "policies", said.share)
        with Watch(guest) as watch:
            service = Daemon(
                folder, run=Forked, program="tests.vm.with_profiles", profiles=f"[{LABEL}]", **DAEMON
            )
            for number in range(said.jobs):
                with running(workload, LABEL, folder / "unused"):
                    time.sleep(said.seconds)
                print(f"{number + 1} of {said.jobs}", flush=True)
            service.stop()
        header, ticks = trace.read(service.trace_path)
        with trace.Writer(out, header) as writer:
            for before, now in pairwise(ticks):
                writer.write(counted(before, now, watch))
    print(Effect.of(trace.read(out)[1]) or "too few jobs of either kind were counted")


if __name__ == "__main__":
    main()
