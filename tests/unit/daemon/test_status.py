# SPDX-License-Identifier: Apache-2.0

"""The ledger adds up what was done for each job, and tells it of the jobs that it is asked for."""

import pytest

from numad_py.daemon.pause import Paused
from numad_py.daemon.status import Facts, Ledger, SkippedProcess
from numad_py.model import (
    Ending,
    Held,
    Judged,
    LookCost,
    Outcome,
    ProcessKey,
    Refusal,
    Skipped,
    Snapshot,
    Verdict,
)
from tests.builders import MIB, TWO_NODES, job, move, node_memory, process, snapshot, tick

WORKER = process(100, pages={0: 300, 1: 100}, cpu_s={1: 0.5})
JOB = job(WORKER, cgroup_id=7, path="/job")
FACTS = Facts()


def told(ledger, jobs=None, *, facts=FACTS, closed_by=None, paused=None):
    """Give the status, of all jobs unless told otherwise."""
    jobs = [(each, facts) for each in ledger.jobs()] if jobs is None else jobs
    return ledger.told(jobs, mode="act", closed_by=closed_by or {}, paused=paused)


def after(*ticks):
    """Give a ledger that took these."""
    ledger = Ledger()
    for each in ticks:
        ledger.write(each)
    return ledger


def turn(time_s=100.0, *, moved=None, held=(), judged=(), jobs=(JOB,), **looked):
    """Give one turn, in which the worker was moved, and so many bytes of it arrived."""
    outcomes = [Outcome(Ending.DONE, moved)] if moved is not None else []
    return tick(
        snapshot(time_s, jobs=jobs, **looked),
        moves=[move(WORKER)] * len(outcomes),
        outcomes=outcomes,
        held=held,
        judged=judged,
    )


def test_before_the_first_look_it_tells_of_no_job():
    status = told(Ledger())

    assert (status.turns, status.last_turn_age_s, status.nodes, status.jobs) == (0, None, [], [])


def test_it_acts_where_nobody_speaks_against_it():
    ledger = after(turn())

    assert told(ledger).acting
    status = told(ledger, closed_by={"operator": "paused"}, paused=Paused(1000, 0))
    assert (status.acting, status.closed_by) == (False, {"operator": "paused"})
    assert status.paused == Paused(1000, 0)


def test_why_another_policy_stands_in_for_one_of_others_is_told_in_text_that_json_can_carry():
    status = Ledger().told([], mode="act", closed_by={}, paused=None, replaced={"mine": "it ended \udcff"})

    assert status.replaced == {"mine": "it ended \\udcff"}


def test_a_jobs_memory_is_told_by_node_and_its_remote_share_by_where_it_ran():
    (status,) = told(after(turn())).jobs

    assert (status.cgroup, status.cgroup_id, status.profile, status.processes) == ("/job", 7, "default", 1)
    assert status.resident_bytes == [300 * 4096, 100 * 4096]
    assert status.remote_share == 0.75


def test_who_labelled_a_job_and_whose_its_directory_is_are_told_where_that_is_known():
    ledger = after(turn())

    (known,) = told(ledger, facts=Facts((), "root's directory", 0)).jobs
    (unknown,) = told(ledger).jobs

    assert (known.labelled_by, known.owner_uid) == ("root's directory", 0)
    assert (unknown.labelled_by, unknown.owner_uid) == (None, None)


def test_a_process_that_rests_is_at_home_where_it_ran_last():
    resting = job(process(100, pages={0: 300, 1: 100}), cgroup_id=7)

    (status,) = told(after(turn(), turn(101.0, jobs=[resting]))).jobs

    assert status.remote_share == 0.75


def test_of_a_job_that_never_ran_no_share_is_told():
    (status,) = told(after(turn(jobs=[job(process(100, pages={0: 1}))]))).jobs

    assert status.remote_share is None


def test_what_moved_is_added_up_in_all_and_of_the_last_minute():
    ledger = after(turn(100.0, moved=5 * MIB), turn(150.0, moved=2 * MIB), turn(165.0, moved=MIB))

    (status,) = told(ledger).jobs

    assert (status.moved_bytes, status.moved_lately_bytes) == (8 * MIB, 3 * MIB)
    assert status.last_outcome == "done"


def test_moves_of_one_turn_are_added_up():
    outcomes = [Outcome(Ending.DONE, MIB), Outcome(Ending.DEADLINE, MIB, detail="late")]

    (status,) = told(after(tick(snapshot(jobs=[JOB]), moves=[move(WORKER)] * 2, outcomes=outcomes))).jobs

    assert (status.moved_bytes, status.moved_lately_bytes) == (2 * MIB, 2 * MIB)
    assert status.last_outcome == "deadline: late"


def test_what_was_held_back_within_the_last_minute_is_told_once():
    room, rate = Held(WORKER.key, 4096, Refusal.NO_ROOM), Held(WORKER.key, 4096, Refusal.RATE)
    ledger = after(turn(100.0, held=[room]), turn(150.0, held=[rate, rate]), turn(170.0))

    (status,) = told(ledger).jobs

    assert status.held_back_lately == ["rate limit"]


def test_a_job_that_is_gone_is_forgotten():
    ledger = after(turn(moved=MIB), turn(101.0, jobs=[]), turn(102.0))

    (status,) = told(ledger).jobs

    assert (status.moved_bytes, status.last_outcome) == (0, None)


def test_who_was_skipped_or_put_off_is_told_with_the_job_that_it_is_in():
    skipped = [Skipped(ProcessKey(pid, 7), "python3", "EACCES") for pid in (100, 200)]
    cost = LookCost(0.001, 0.004, (ProcessKey(100, 7), ProcessKey(200, 7), ProcessKey(300, 7)))
    look = Snapshot(100.0, TWO_NODES, node_memory(), (JOB,), tuple(skipped), cost)
    ledger = after(tick(look))

    status = told(ledger, [(JOB, Facts((100, 300)))])

    assert status.jobs[0].skipped == [SkippedProcess(100, "python3", "EACCES")]
    assert status.jobs[0].postponed == 2
    assert (status.cost.core_share, status.cost.postponed) == (0.004, 3)


def test_jobs_that_are_not_asked_for_are_not_told():
    assert told(after(turn()), []).jobs == []


@pytest.mark.parametrize("name", ["/a\udcff", "/a\udce9b"])
def test_names_that_are_no_utf_8_are_escaped(name):
    (status,) = told(after(turn(jobs=[job(cgroup_id=7, path=name)]))).jobs

    assert status.cgroup == name.encode(errors="backslashreplace").decode()
    assert status.cgroup.encode()


def test_what_the_guard_found_is_added_up():
    ledger = after(
        turn(100.0, judged=[Judged(JOB.cgroup_id, Verdict.HELPED)]),
        turn(150.0, judged=[Judged(JOB.cgroup_id, Verdict.HELPED), Judged(JOB.cgroup_id, Verdict.PING_PONG)]),
    )

    (status,) = told(ledger).jobs

    assert status.judged == {"helped": 2, "ping-pong": 1}
