# SPDX-License-Identifier: Apache-2.0

"""A sampling that goes wrong ends by itself and says why; one that is damaged for a moment goes on."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from numad_py.kernel.perf_ring import record_type
from numad_py.sense.investigate import sampling_run
from numad_py.sense.investigate.access_sources import HINT_FAULTS
from numad_py.sense.investigate.open_events import Taken
from numad_py.sense.investigate.sampling_plan import Opening
from numad_py.sense.investigate.sampling_rate import GRANTED, LEAST_WINDOW_S
from numad_py.sense.investigate.sampling_run import SamplingRun

EVERY_FAULT = dataclasses.replace(HINT_FAULTS, accessed=lambda samples: np.ones(len(samples), bool))
KIND = record_type(HINT_FAULTS.fields)
NOTHING = Opening((), by_cgroup=False, ring_pages=1, pinned_bytes=0, switch_s=0.0, left_out=0)


class FakeEvents:
    """Events of which every window is known beforehand."""

    failed = None

    def __init__(self, *windows):
        self.windows = list(windows)
        self.periods = []
        self.closed = False

    def __len__(self):
        return 1

    def take(self):
        return self.windows.pop(0)

    def set_period(self, period):
        self.periods.append(period)

    def close(self):
        self.closed = True


def taken(count, *, pid=7, lost=False, until_s=math.inf):
    samples = np.zeros(count, KIND)
    samples["pid"] = pid
    return Taken(samples, count, lost, until_s)


def run_of(events, source=EVERY_FAULT):
    return SamplingRun(
        source,
        NOTHING,
        np.array([7]),
        cgroup=None,
        budget_share=0.5,
        job_share=0.5,
        opener=lambda *_: events,
    )


def test_where_nothing_can_be_opened_the_run_is_over_and_says_so():
    run = SamplingRun(EVERY_FAULT, NOTHING, np.array([7]), cgroup=None, budget_share=0.1, job_share=0.1)

    run.close()

    assert run.over
    assert run.seen.problems == ["nothing to sample hint-faults on"]


def test_a_window_with_losses_is_not_believed_and_the_next_one_is():
    run = run_of(FakeEvents(taken(40, lost=True), taken(40)))

    waits = [run.turn(), run.turn()]

    assert max(waits) < 0.5
    assert (run.seen.taken, run.seen.kept) == (80, 40)
    assert run.seen.accesses == 40 * 16  # the loss made the period sixteen times as long
    assert not run.over


def test_records_lost_again_and_again_end_the_run():
    run = run_of(FakeEvents(*[taken(40, lost=True)] * 5))

    for _ in range(5):
        run.turn()

    assert run.over
    assert run.seen.problems == ["records of hint-faults were lost again and again: too many to read"]
    assert run.seen.watched_s == 0


def test_strangers_samples_are_not_kept():
    run = run_of(FakeEvents(taken(40, pid=8)))

    run.turn()

    assert (run.seen.taken, run.seen.kept, run.seen.accesses) == (40, 0, 0)


def test_a_window_that_ran_out_counts_as_watched_only_until_then():
    events = FakeEvents(taken(GRANTED, until_s=0.0))
    run = run_of(events)

    run.turn()

    assert run.seen.watched_s == 0
    assert events.periods == [32]


def test_a_job_that_pays_too_much_is_left_alone_for_a_while_and_looked_at_again():
    events = FakeEvents(taken(10), taken(10))
    run = run_of(events, dataclasses.replace(EVERY_FAULT, sampled_s=1.0))

    waits = [run.turn(), run.turn()]

    assert waits[0] > 15
    assert events.closed
    assert waits[1] == LEAST_WINDOW_S
    assert run.seen.taken == 10


def test_enough_samples_end_the_run(monkeypatch):
    monkeypatch.setattr(sampling_run, "_MOST_KEPT", 50)
    run = run_of(FakeEvents(taken(30), taken(30)))

    run.turn()
    run.turn()

    assert run.over
    assert run.seen.problems == ["stopped after 50 samples, which are enough"]


def is_open(folder):
    return folder in {link.resolve() for link in Path("/proc/self/fd").iterdir()}


def test_a_cgroup_is_held_open_until_the_end(tmp_path):
    by_cgroup = dataclasses.replace(NOTHING, by_cgroup=True)
    run = SamplingRun(EVERY_FAULT, by_cgroup, np.array([7]), cgroup=tmp_path, budget_share=0.1, job_share=0.1)
    held = is_open(tmp_path)

    run.close()
    run.close()

    assert held
    assert not is_open(tmp_path)
