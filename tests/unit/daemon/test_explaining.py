# SPDX-License-Identifier: Apache-2.0

"""Of one process is told what was seen, what was decided by which figures, and how its last moves ended."""

import math
from dataclasses import replace

import pytest

from numad_py.daemon import explaining
from numad_py.daemon.explaining import LAST, LATELY_S, Circumstances
from numad_py.model import (
    Compared,
    Decision,
    Ending,
    Explanation,
    Held,
    MoveTasks,
    Outcome,
    Reason,
    Refusal,
)
from numad_py.rhythm import Rhythm
from tests.builders import MIB, job, move, process, snapshot, tick

WORKER = process(100, pages={0: 300, 1: 100}, cpu_s={1: 0.5}, comm="a\udcff")
JOB = job(WORKER, path="/train.slice/job\udcff")
AROUND = Circumstances(now_s=101.0, period_s=1.0)


def explained(explanation=None, *, worker=WORKER, around=AROUND):
    """Give what is told of the worker."""
    seen = snapshot(jobs=[replace(JOB, processes=(process(1), worker))])
    return explaining.explained(seen, *explaining.find(seen, 100), explanation, around)


def turn(time_s, outcome, *, worker=WORKER, **others):
    """Give a turn with one move of the worker, or with ``others``."""
    return tick(
        time_s=time_s, processes=[worker], moves=[move(worker, limit_bytes=MIB)], outcomes=[outcome], **others
    )


def after(*turns):
    """Give what is remembered of the worker after these turns."""
    lately = {}
    for each in turns:
        lately = explaining.after(lately, each)
    return lately.get(WORKER.key, ())


def test_what_a_look_says_is_told_by_node_and_as_json_can_carry_it():
    told = explained()

    assert (told.pid, told.comm, told.cgroup) == (100, r"a\udcff", r"/train.slice/job\udcff")
    assert (told.nodes, told.nodes_allowed, told.cpu_s) == ([0, 1], [0, 1], [0.0, 0.5])
    assert told.resident_bytes == told.movable_bytes == [300 * 4096, 100 * 4096]
    assert (told.looked_s, told.now_s, told.placement_age_s) == (100.0, 101.0, 0.0)


@pytest.mark.parametrize(
    ("merged_bytes", "said"),
    [
        (0, []),
        (12 * MIB, ["12.0 MB of it the kernel merged with equal pages of others (KSM) is not moved"]),
        (None, ["what of it the kernel merged with equal pages of others (KSM) is not moved"]),
    ],
)
def test_what_the_kernel_merged_is_said_to_stay(merged_bytes, said):
    assert explained(around=replace(AROUND, merged_bytes=merged_bytes)).notes == said


def test_memory_that_was_never_looked_at_has_no_age():
    assert explained(worker=replace(WORKER, placement_age_s=math.inf)).placement_age_s is None


def test_what_the_policy_says_and_the_guard_adds_is_told():
    compared = Compared("looks", 1, "patience", 2)
    held = Held(WORKER.key, MIB, Refusal.BACKOFF, {"wait_s": 3.0})

    told = explained(Explanation(Decision.WAIT, (compared,), (1,), 1, (held,), ("so",)))

    assert (told.decision, told.compared, told.targets, told.more_looks) == ("wait", [compared], [1], 1)
    assert told.notes == ["so"]
    assert [(each.bytes, each.why, each.figures) for each in told.held] == [
        (MIB, "backing off after failures", {"wait_s": 3.0})
    ]


def test_of_a_process_that_tells_its_steps_their_time_and_their_slack_are_told():
    around = replace(AROUND, rhythm=Rhythm(0.25, 0.04, 100.0))

    told = explained(Explanation(Decision.STAY, notes=("so",)), around=around)

    assert told.notes == [
        "so",
        "it makes a step every 250 ms, 40 ms of them slack: its pages move there, if they fit",
    ]


def test_of_a_policy_that_says_nothing_it_is_said_that_it_does_not():
    assert explained(None).decision == Decision.UNTOLD


def test_the_last_moves_are_remembered_with_their_figures_and_how_they_ended():
    wish = replace(move(WORKER, limit_bytes=2 * MIB), figures={"remote_share": 0.75})
    threads = MoveTasks(WORKER.key, (0, 1), Reason.SPREAD)
    outcomes = Outcome(Ending.LIMIT, MIB, {"EBUSY": 2}, detail="so"), Outcome(Ending.DONE, moved_threads=3)

    pages, tasks = after(
        tick(
            processes=[WORKER],
            moves=[wish],
            outcomes=outcomes[:1],
            task_moves=[threads],
            task_outcomes=outcomes[1:],
        )
    )

    assert (pages.what, pages.targets, pages.wanted_bytes, pages.moved_bytes) == ("pages", [1], 2 * MIB, MIB)
    assert (pages.ending, pages.detail, pages.failed) == ("limit", "so", {"EBUSY": 2})
    assert pages.figures == {"remote_share": 0.75}
    assert (tasks.what, tasks.targets, tasks.moved_threads) == ("threads", [0, 1], 3)


def test_a_move_of_what_a_job_shares_is_one_of_each_of_its_processes():
    other = process(101, pages={0: 1})
    wish = replace(move(WORKER), among=(WORKER.key, other.key))

    lately = explaining.after({}, tick(processes=[WORKER, other], moves=[wish]))

    assert {key: [each.what for each in moves] for key, moves in lately.items()} == {
        WORKER.key: ["shared pages"],
        other.key: ["shared pages"],
    }


def test_only_so_many_are_remembered():
    moved = after(*(turn(100.0 + second, Outcome(Ending.DONE, MIB)) for second in range(LAST + 2)))

    assert [each.time_s for each in moved] == [102.0 + second for second in range(LAST)]


@pytest.mark.parametrize("ending", [Ending.DRY_RUN, Ending.REFUSED])
def test_what_came_to_nothing_again_and_again_is_one_of_them(ending):
    moved = after(
        turn(100.0, Outcome(Ending.DONE, MIB)),
        *(turn(101.0 + second, Outcome(ending)) for second in range(9)),
    )

    assert [(each.time_s, each.times, each.ending) for each in moved] == [
        (100.0, 1, "done"),
        (109.0, 9, str(ending)),
    ]


def test_who_is_gone_and_what_is_long_ago_is_forgotten():
    done = turn(100.0, Outcome(Ending.DONE, MIB))

    assert after(done, tick(time_s=100.0 + LATELY_S, processes=[WORKER])) == ()
    assert after(done, tick(time_s=101.0, processes=[process(100, start_ticks=8)])) == ()
    assert len(after(done, tick(time_s=101.0, processes=[WORKER]))) == 1


def test_a_process_that_is_not_there_is_not_found():
    assert explaining.find(snapshot(jobs=[JOB]), 7) is None
