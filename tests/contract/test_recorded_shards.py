# SPDX-License-Identifier: Apache-2.0

"""What DAMON told in a guest of two workers, each with its half, sends the second half to the second worker's node.

These recordings are older than ``backing``: it is put in here, for the array or file that all of them map.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py.policies.threshold import Threshold
from numad_py.trace import read

GUESTS = Path(__file__).parents[2] / "sim/guests"
MB = 1 << 20
HALF_MB = 160


def shared(process):
    """Give the process with the number of what it shares, and where that begins."""
    regions = process.regions
    large = (regions.mapmax > 1) & (regions.resident_bytes.sum(axis=1) > 100 * MB)
    return replace(process, regions=replace(regions, backing=large.astype(np.int64)))


@pytest.mark.parametrize("name", ["forked-shards", "shared-shards", "file-shards"])
def test_the_half_of_the_worker_on_node_1_is_wished_there_once_it_is_told(name):
    policy, wishes, told = Threshold(), [], False
    for tick in read(GUESTS / f"{name}.jsonl.zst")[1]:
        jobs = [
            replace(job, processes=tuple(map(shared, job.processes)))
            for job in tick.snapshot.jobs
            if len(job.processes) == 3
        ]
        seen = replace(tick.snapshot, jobs=tuple(jobs))
        told = told or any(process.accesses for process in seen.processes)
        moves = [move for move in policy.decide(seen).moves if move.among]
        wishes += [(seen, move) for move in moves if told]
        assert told or not moves

    seen, wish = wishes[0]
    (mover,) = (process for process in seen.processes if process.key == wish.process)
    (array,) = np.flatnonzero(mover.regions.shared)
    first_mb = (int(wish.start[0]) - int(mover.regions.start[array])) / MB
    assert wish.targets == (1,)
    assert first_mb == pytest.approx(HALF_MB, abs=4)
    assert (wish.end - wish.start).sum() / MB == pytest.approx(HALF_MB, abs=4)
