# SPDX-License-Identifier: Apache-2.0

"""Measure what share of a workload's accesses is remote under each policy, as QEMU counted them in a guest.

    .venv/bin/python -m tests.vm.guest --guest two-nodes-counted --limit 3000 --bench bench/policies_in_guests.py
    .venv/bin/python -m tests.vm.guest --guest two-nodes-damon --limit 1500 --bench bench/policies_in_guests.py --record
    .venv/bin/python bench/policies_in_guests.py --collect

The first runs each of tests/vm/nine.py under each policy alone; the second lets the daemon record each while nothing
moves, on a kernel that has DAMON; the third, outside, writes what both left to sim/guests/. SOURCES.md there explains it.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import profiles, trace
from numad_py.daemon import log
from numad_py.daemon.config import Config
from numad_py.daemon.running import heard_signals
from numad_py.daemon.service import Service
from numad_py.policies.hold import Hold
from tests.vm import fill, nine
from tests.vm.access_counts import BUILD, AccessCounts
from tests.vm.cells import balancing, daemon, nobody, numad
from tests.vm.guests import BY_NAME
from tests.vm.nine import NINE, running

GUESTS = Path(__file__).parents[1] / "sim" / "guests"
SCANS = Path("/sys/kernel/debug/sched/numa_balancing")
# The guest is some twenty times slower than a machine; for recording alone the kernel scans as if it were not.
SCAN_MS = {"scan_delay_ms": "100", "scan_period_min_ms": "200", "scan_period_max_ms": "1000"}
SETTLE_S = {"hold": 3.0, "threshold": 40.0}  # instead of a workload's own, if that settles at all
INVESTIGATED_S = 45.0  # by when it is known who uses what
BUDGET_CORE_SHARE = 1.0
CELLS = "cells.jsonl"
RECORDED = "recorded"


POLICIES = {"hold": nobody, "kernel": balancing, "numad": numad, "threshold": daemon}


@contextlib.contextmanager
def recording(path):
    """Record, as ``numad-py record --anonymise`` does, but with CPU time to spend: a guest is slow."""
    path.unlink(missing_ok=True)
    recorder = multiprocessing.get_context("fork").Process(target=record, args=(path,))
    recorder.start()  # forked, since importing it all anew takes half a minute
    while not path.exists():
        time.sleep(0.1)
    try:
        yield
    finally:
        recorder.terminate()
        recorder.join()


def record(path):
    """Write what the labelled jobs do, anonymised, until told to stop."""
    log.configure(foreground=True)
    service = Service(Config(period_s=1.0, budget_core_share=BUDGET_CORE_SHARE), policy=Hold())
    hidden = trace.Anonymiser(secrets.token_bytes(32), frozenset(profiles.names()))
    with (
        heard_signals(service.clock),
        trace.Writer(path, hidden.header(service.header())) as writer,
    ):
        for tick in service.ticks():
            writer.write(hidden.tick(tick))


def left(name):
    """Give a path that outlives the guest."""
    return Path(os.environ["NUMAD_VM_FOLDER"]) / name


@contextlib.contextmanager
def sampled(workload):
    """Let the kernel provoke hint faults where threads of one process are to be told apart, which DAMON cannot."""
    if workload.jobs != NINE["halves"].jobs:
        yield ()
        return
    for name, value in SCAN_MS.items():
        (SCANS / name).write_text(value)
    with balancing():
        yield ("--stays",)


def measure(guest, workload, file, *, label, seconds, more=()):
    """Run a workload, and count from when it has had time to settle."""
    settle_s, window_s = seconds
    moved_before = fill.vmstat("pgmigrate_success")
    with running(workload, label, file, *more):
        time.sleep(settle_s)
        before, began_s = AccessCounts.read(guest), time.monotonic()
        time.sleep(window_s)
        counts, took_s = AccessCounts.read(guest) - before, time.monotonic() - began_s
        moved = fill.vmstat("pgmigrate_success") - moved_before
    return {
        "remote_access_share": round(counts.remote_share, 4),
        "accesses": counts.by_node.tolist(),
        "moved_pages": moved,
        "settle_s": settle_s,
        "window_s": round(took_s, 2),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def keep(workload, policy, cell):
    """Write a result where it outlives the guest, and show it."""
    with left(CELLS).open("a") as cells:
        cells.write(json.dumps({"workload": workload, "policy": policy, **cell}) + "\n")
    accesses = np.sum(cell["accesses"]) / cell["window_s"] / 1e6
    print(
        f"{workload:<14} {policy:<10} remote {cell['remote_access_share']:.3f}, {cell['moved_pages']:>7} pages moved, "
        f"{accesses:.2f} million accesses a second",
        flush=True,
    )


def run_policies(said, guest, file):
    """Run each workload under each policy alone."""
    for policy in said.policy:
        with POLICIES[policy]():
            for name in said.workload:
                seconds = said.seconds or seconds_of(NINE[name], policy)
                keep(name, policy, measure(guest, NINE[name], file, label="default", seconds=seconds))


def seconds_of(workload, policy):
    """Give for how long a workload settles, and is counted."""
    settles = workload.settle_s >= nine.SETTLE_S
    return SETTLE_S.get(policy, workload.settle_s) if settles else workload.settle_s, workload.window_s


def run_recordings(said, guest, file):
    """Record each workload."""
    for name in said.workload:
        path = left(f"{name}.jsonl.zst")
        settle_s = INVESTIGATED_S if NINE[name].groups_differ else NINE[name].settle_s
        seconds = said.seconds or (settle_s, NINE[name].window_s)
        with sampled(NINE[name]) as more, recording(path):
            cell = measure(guest, NINE[name], file, label="hold", more=more, seconds=seconds)
        keep(name, RECORDED, cell)
        print(f"{'':<14} {told(path)}", flush=True)


def told(path):
    """Say what a trace holds."""
    _, ticks = trace.read(path)
    seen, turns = [], 0
    for tick in ticks:
        turns += 1
        seen += [process.accesses for process in tick.snapshot.processes if process.accesses]
    each = (f"{one.source} {len(one.start)}x{len(one.groups)}" for one in seen)
    return f"{turns} ticks, {path.stat().st_size} bytes, accesses: {', '.join(each) or 'none'}"


def collect():
    """Write what the guests left to sim/guests/."""
    cells = [cell for name in BY_NAME for cell in read_cells(BUILD / name / CELLS, name)]
    for name in NINE:
        found = [cell for cell in cells if cell["workload"] == name]
        if found:
            (GUESTS / f"{name}.json").write_text(json.dumps(summary(name, found), indent=2) + "\n")
        recorded = BUILD / "two-nodes-damon" / f"{name}.jsonl.zst"
        if recorded.exists():
            shutil.copyfile(recorded, GUESTS / recorded.name)


def read_cells(path, guest):
    """Give the results of one guest."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [{**json.loads(line), "guest": guest} for line in lines]


def summary(name, cells):
    """Give what the file of a workload says."""
    policies = {}
    for policy in (*POLICIES, RECORDED):
        runs = [cell for cell in cells if cell["policy"] == policy]
        if runs:
            policies[policy] = of_runs(runs)
    return {"workload": name, "what": NINE[name].what, "mb": NINE[name].mb, "policies": policies}


def of_runs(runs):
    """Give the mean of some runs, and each of them."""
    shares = [run["remote_access_share"] for run in runs]
    hidden = ("workload", "policy")
    return {
        "remote_access_share": round(statistics.mean(shares), 4),
        "least": min(shares),
        "most": max(shares),
        "runs": [{key: value for key, value in run.items() if key not in hidden} for run in runs],
    }


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", action="append", choices=NINE, help="may be given again; all of them")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="may be given again; all of them")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        metavar=("SETTLE", "WINDOW"),
        help="instead of what each workload says",
    )
    parser.add_argument("--record", action="store_true", help="record traces instead of running policies")
    parser.add_argument("--collect", action="store_true", help="write what the guests left to sim/guests/")
    said = parser.parse_args()
    said.workload, said.policy = said.workload or list(NINE), said.policy or list(POLICIES)
    return said


def main():
    """Do what the command line asks."""
    said = arguments()
    if said.collect:
        collect()
        return
    guest = BY_NAME[os.environ["NUMAD_VM_TESTS"]]
    with tempfile.TemporaryDirectory() as folder, fill.disk(Path(folder)) as mount:
        (run_recordings if said.record else run_policies)(said, guest, mount / "file")


if __name__ == "__main__":
    main()
