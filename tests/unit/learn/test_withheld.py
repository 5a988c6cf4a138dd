# SPDX-License-Identifier: Apache-2.0

"""What moving took away of remote accesses is told by jobs that were moved beside jobs that were withheld."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from numad_py import trace
from numad_py.learn import draws, examples
from numad_py.learn.withheld import FEWEST, Effect
from numad_py.model import Ending, Held, JobCounters, Outcome, Refusal
from tests.builders import TWO_NODES, job, move, process, tick
from tests.builders import snapshot as look_at

RECORDED = Path(__file__).parents[2] / "recorded/traces/withheld.jsonl.zst"
HEADER = trace.Header(TWO_NODES, "6.1.0", "aaaa", 0.0)
REMOTE = {0: 9000, 1: 1000}


def counted(number, remote_share, *, verified=True, local=True):
    """Give a job of one process of which counters told so much in the last second."""
    counters = JobCounters(
        1.0, {}, 1e6 * (1 - remote_share) if local else None, 1e6 * remote_share, verified=verified
    )
    one = process(number, pages=REMOTE, cpu_s={1: 0.9})
    return dataclasses.replace(job(one, cgroup_id=number), counters=counters)


def run(shares, withheld, *, looks=4, **counters):
    """Give ticks in which jobs run with these remote shares, from when they were moved, or were not."""
    ticks = []
    for at in range(looks):
        jobs = [counted(number, 1.0 if at == 0 else share, **counters) for number, share in shares.items()]
        moves = [move(each.processes[0]) for each in jobs if each.cgroup_id not in withheld and at == 0]
        held = [
            Held(each.processes[0].key, 1 << 20, Refusal.WITHHELD)
            for each in jobs
            if each.cgroup_id in withheld
        ]
        outcomes = [Outcome(Ending.DONE, moved_bytes=9000 * 4096) for _ in moves]
        ticks.append(tick(look_at(float(at), jobs=jobs), moves=moves, outcomes=outcomes, held=held))
    return ticks


def test_the_part_that_moving_took_away_is_what_is_missing_beside_the_withheld():
    stayed = range(1, 1 + FEWEST)
    shares = dict.fromkeys(stayed, 0.8) | dict.fromkeys(range(20, 30), 0.2)

    effect = Effect.of(run(shares, stayed))

    assert (len(effect.moved), len(effect.withheld)) == (10, FEWEST)
    assert effect.gone_share == pytest.approx(0.75)
    assert effect.error == pytest.approx(0.0)
    assert str(effect) == (
        "10 jobs were moved and 5 withheld: 0.20 and 0.80 of their accesses were remote, so that moving took away "
        "0.75 of them (standard error 0.00)"
    )


def test_in_a_guest_moving_late_bound_jobs_took_away_nearly_all_of_their_remote_accesses():
    _, ticks = trace.read(RECORDED)

    effect = Effect.of(ticks)

    assert (len(effect.moved), len(effect.withheld)) == (20, 6)
    assert effect.gone_share == pytest.approx(0.960, abs=0.001)
    assert effect.error == pytest.approx(0.007, abs=0.001)


def test_jobs_that_differ_leave_an_error():
    shares = dict(zip(range(1, 11), [0.7, 0.8, 0.9, 0.8, 0.8, 0.1, 0.3, 0.2, 0.2, 0.2], strict=True))

    effect = Effect.of(run(shares, range(1, 6)))

    spread = np.array([0.8, 0.2])
    error = 0.25 * np.sqrt(((np.sqrt(0.005) / np.sqrt(5) / spread) ** 2).sum())
    assert effect.error == pytest.approx(error)


def test_where_more_was_remote_nothing_was_taken_away():
    shares = dict.fromkeys(range(1, 6), 0.2) | dict.fromkeys(range(6, 11), 0.9)

    assert Effect.of(run(shares, range(1, 6))).gone_share == 0.0


@pytest.mark.parametrize(
    ("withheld", "counters"),
    [
        (range(1, FEWEST), {}),
        ((), {}),
        (range(1, 7), {"verified": False}),
        (range(1, 7), {"local": False}),
    ],
)
def test_too_few_of_a_kind_and_counters_that_nobody_verified_tell_nothing(withheld, counters):
    assert Effect.of(run(dict.fromkeys(range(1, 13), 0.5), withheld, **counters)) is None


def test_who_is_in_no_job_any_more_is_passed_over():
    ticks = run(dict.fromkeys(range(1, 13), 0.5), range(1, 7))
    gone = Held(process(99).key, 1, Refusal.WITHHELD)
    ticks[1] = dataclasses.replace(ticks[1], plan=dataclasses.replace(ticks[1].plan, held=(gone,)))

    assert Effect.of(ticks).gone_share == pytest.approx(0.0)


def test_what_did_not_move_and_what_was_held_for_another_reason_is_on_neither_side():
    ticks = run({number: 0.8 if number < 7 else 0.2 for number in range(1, 13)}, range(1, 7))
    one, other = (counted(number, 0.5).processes[0] for number in (20, 21))
    more = look_at(0.0, jobs=[*ticks[0].snapshot.jobs, job(one, cgroup_id=20), job(other, cgroup_id=21)])
    plan = ticks[0].plan
    plan = dataclasses.replace(
        plan,
        moves=(*plan.moves, move(one)),
        held=(*plan.held, Held(other.key, 1 << 20, Refusal.NO_ROOM)),
    )
    outcomes = (*ticks[0].outcomes, Outcome(Ending.STUCK))
    ticks[0] = dataclasses.replace(ticks[0], snapshot=more, plan=plan, outcomes=outcomes)

    effect = Effect.of(ticks)

    assert (len(effect.moved), len(effect.withheld)) == (6, 6)


@pytest.mark.parametrize(("moved_share", "part"), [(0.0, 1.0), (0.4, 0.5), (0.9, 0.0)])
def test_labels_of_a_recording_are_of_the_part_that_moving_took_away(tmp_path, moved_share, part):
    shares = {number: 0.8 if number < 7 else moved_share for number in range(1, 13)}

    priced, told = (labels(tmp_path / f"{each}", shares, verified=each) for each in (False, True))

    assert told == {machine: pytest.approx(part * label) for machine, label in priced.items()}


def labels(folder, shares, *, verified):
    """Give the mean label of a recording of these jobs, of which six were withheld, by machine that it is priced on."""
    path = folder / "day" / "a.jsonl"  # draws are by a trace's name and that of its folder
    path.parent.mkdir(parents=True)
    with trace.Writer(path, HEADER) as writer:
        for each in run(shares, range(1, 7), looks=30, verified=verified):
            writer.write(each)
    found = examples.of(draws.Case(path, 0))
    return {name: found.label[found.machine == name].mean() for name in {*found.machine.tolist()}}
