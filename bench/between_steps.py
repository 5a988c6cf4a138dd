# SPDX-License-Identifier: Apache-2.0

"""What a job's steps feel of being moved: where they are not told, told, and told without slack.

The memory of one job goes from node to node and back, in turns as the loop moves it, in each way. Printed are what a
round of the job's work took in each of the steps meanwhile, how long moving took, and how many of the moving calls
began in steps.
Run it in the two-node guest: ``python -m tests.vm.guest --bench bench/between_steps.py``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from numad_py.daemon import reports
from numad_py.sense.reported import Reported
from tests.vm import stepping
from tests.vm.running import Workload

QUIET_S = 5.0
WAYS = {
    "not told": lambda _rhythm: None,
    "told": lambda rhythm: rhythm,
    "told without slack": lambda rhythm: rhythm and replace(rhythm, slack_s=0.0),
}


def started(folder, options):
    """Start a job that tells its steps in a folder."""
    words = ["steps", f"--mb={options.mb}", f"--step-s={options.step_s}", f"--rest-s={options.slack_s}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.vm.workloads", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NUMAD_PROGRESS": f"{folder}/progress"},
    )
    job = Workload(process).await_ready()
    job.tell("bind")
    return job


def shown(name, round_s):
    """Give a row of milliseconds."""
    figures = np.percentile(round_s, [50, 95, 100]) * 1e3
    return f"{name:<20} {len(round_s):>6} " + " ".join(f"{each:8.2f}" for each in figures)


def compare(job, reported, turns):
    """Print a row for each way."""
    print(f"{'a round in':<20} {'steps':>6} {'p50 ms':>8} {'p95 ms':>8} {'longest':>8}")
    stepping.steps(job)
    time.sleep(QUIET_S)
    print(shown("nothing moves", stepping.round_s(stepping.steps(job))))
    for name, way in WAYS.items():
        felt = [
            stepping.move(job, lambda pid, way=way: way(reported.rhythm(pid)), target)
            for target in (1, 0) * turns
        ]
        row = shown(name, np.concatenate([each.round_s for each in felt]))
        share = np.mean([each.in_steps_share for each in felt])
        moving_s = np.median([each.moving_s for each in felt])
        print(f"{row}  moved in {moving_s:.1f} s, {share:.2f} of calls begun in steps", flush=True)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=16)
    parser.add_argument("--step-s", type=float, default=0.3, help="how long a step takes (%(default)s)")
    parser.add_argument("--slack-s", type=float, default=0.15, help="between two steps (%(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="there and back, for each way (%(default)s)")
    options = parser.parse_args()
    reported = Reported()
    with tempfile.TemporaryDirectory() as folder, reports.heard(Path(folder), reported.hear):
        job = started(folder, options)
        stepping.await_rhythm(job, reported)
        print(reported.rhythm(job.pid))
        compare(job, reported, options.turns)
        job.close()


if __name__ == "__main__":
    main()
