# SPDX-License-Identifier: Apache-2.0

"""Ticks are counted by job and node; what is told of a job ends with it, and nobody can make too much of it."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from numad_py import __version__
from numad_py.act.gate import Gate
from numad_py.daemon.metrics import table
from numad_py.daemon.metrics.counting import Counting
from numad_py.model import (
    Ending,
    Held,
    Judged,
    LookCost,
    MoveTasks,
    Outcome,
    ProcessKey,
    Reason,
    Refusal,
    Skipped,
    Verdict,
)
from tests.builders import GIB, MIB, job, move, node_memory, process, snapshot, tick

JOB = "/train.slice/job"
MEMBER = process(1000, pages={0: 900, 1: 100}, cpu_s={1: 1.0})


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def count(gate):
    """Give what it counts into."""
    return Counting(gate, lambda: 3)


def turn(*outcomes, wish=None, member=MEMBER, **others):
    """Give a tick of one process, with a move for each outcome."""
    moves = [wish or move(member) for _ in outcomes]
    return tick(processes=[member], moves=moves, outcomes=outcomes, **others)


def paths(count, metric):
    """Give the cgroups that a metric tells of."""
    return sorted({labels[0] for labels in count.values()[metric]})


def test_policies_of_others_are_told_by_profile_with_what_they_missed(gate):
    others = [
        SimpleNamespace(profile="mine", missed=3, why="it ended"),
        SimpleNamespace(profile="b", missed=0, why=""),
    ]

    values = Counting(gate, lambda: 0, lambda: others).values()

    assert values[table.POLICY_MISSED] == {("mine",): 3, ("b",): 0}
    assert values[table.POLICY_REPLACED] == {("mine",): 1, ("b",): 0}


def test_where_a_job_is_and_what_of_it_is_remote_is_told_by_node(count):
    count.take(turn(), 0.0)

    values = count.values()
    assert values[table.RESIDENT] == {(JOB, "default", "0"): 900 * 4096, (JOB, "default", "1"): 100 * 4096}
    assert values[table.REMOTE] == {(JOB, "default", "0"): 900 * 4096, (JOB, "default", "1"): 0}
    assert values[table.REMOTE_MOVABLE] == values[table.REMOTE]


def test_what_moved_is_added_up_with_the_stall_it_caused_and_what_failed(count):
    outcome = Outcome(Ending.LIMIT, 3 * MIB, {"EBUSY": 2}, call_s=(0.004, 0.012))

    for _ in range(2):
        count.take(turn(outcome), 0.0)

    values = count.values()
    assert values[table.MOVED] == {(JOB, "0"): 0, (JOB, "1"): 6 * MIB}
    assert values[table.STALL] == {(JOB,): pytest.approx(0.032)}
    assert values[table.FAILED] == {(JOB, "EBUSY"): 4}
    assert values[table.MOVES] == {(JOB, "memory-follows-cpu", "limit"): 2}


def test_a_move_to_several_nodes_counts_an_equal_part_for_each(count):
    wish = move(MEMBER, sources=(0, 1), targets=(0, 1), reason=Reason.SPREAD)

    count.take(turn(Outcome(Ending.DONE, 6 * MIB), wish=wish), 0.0)

    assert count.values()[table.MOVED] == {(JOB, "0"): 3 * MIB, (JOB, "1"): 3 * MIB}


def test_a_move_of_tasks_counts_its_threads(count):
    wish = MoveTasks(MEMBER.key, (0,), Reason.TASKS_FOLLOW_MEMORY)

    count.take(turn(task_moves=[wish], task_outcomes=[Outcome(Ending.DONE, moved_threads=16)]), 0.0)

    assert count.values()[table.MOVED_THREADS] == {(JOB,): 16}
    assert count.values()[table.MOVES] == {(JOB, "tasks-follow-memory", "done"): 1}


def test_a_counter_of_a_job_begins_at_nothing_since_rate_does_not_see_what_it_begins_with(count):
    count.take(turn(), 0.0)

    values = count.values()
    assert values[table.MOVED] == {(JOB, "0"): 0, (JOB, "1"): 0}
    assert values[table.STALL] == values[table.MOVED_THREADS] == {(JOB,): 0}


def test_what_the_guard_holds_back_is_told_of_the_last_turn(count):
    held = [Held(MEMBER.key, MIB, Refusal.NO_ROOM), Held(MEMBER.key, 2 * MIB, Refusal.NO_ROOM)]

    count.take(turn(held=held), 0.0)
    then = count.values()[table.HELD]
    count.take(turn(), 0.0)

    assert then == {(JOB, "no room on the target"): 3 * MIB}
    assert count.values()[table.HELD] == {}


def test_what_is_known_of_a_job_ends_with_the_job(count):
    other = job(process(2000, pages={0: 5}), cgroup_id=2, path="/other")
    outcome = Outcome(Ending.REFUSED, failed={"EPERM": 1}, call_s=(0.1,))
    both = snapshot(jobs=[other], processes=[MEMBER])
    count.take(
        tick(replace(both, cost=LookCost(postponed=(MEMBER.key,))), moves=[move(MEMBER)], outcomes=[outcome]),
        0.0,
    )

    count.take(tick(snapshot(jobs=[other])), 0.0)

    told = {labels[0] for metric, labels in named(count.values()) if "cgroup" in metric.labels}
    assert told == {"/other"}


def named(values):
    return [(metric, labels) for metric, each in values.items() for labels in each]


def test_a_job_that_comes_again_begins_at_nothing(count):
    count.take(turn(Outcome(Ending.DONE, MIB, call_s=(1.0,))), 0.0)
    count.take(tick(), 0.0)

    count.take(turn(), 0.0)

    assert count.values()[table.STALL] == {(JOB,): 0}


def test_more_jobs_than_a_thousand_are_left_out_with_one_sentence_and_never_the_first(count):
    first = job(MEMBER)
    flood = [job(cgroup_id=number, path=f"/a/{number}") for number in range(2, 1500)]
    count.take(tick(snapshot(jobs=[first])), 0.0)

    with capture_logs() as log:
        for _ in range(3):
            count.take(tick(snapshot(jobs=[*flood, first])), 0.0)

    told = paths(count, table.RESIDENT)
    assert [(line["event"], line["jobs"]) for line in log] == [("too many jobs", 1499)]
    assert (len(told), JOB in told, paths(count, table.STALL) == told) == (1000, True, True)
    assert count.values()[table.JOBS] == {(): 1499}


def test_a_job_that_was_left_out_is_taken_up_where_others_end(count):
    flood = [job(cgroup_id=number, path=f"/{number:04}") for number in range(1001)]
    count.take(tick(snapshot(jobs=flood)), 0.0)
    before = paths(count, table.STALL)

    count.take(tick(snapshot(jobs=flood[1:])), 0.0)

    assert before[-1] == "/0999"
    assert paths(count, table.STALL) == [each.path for each in flood[1:]]


def test_cgroups_whose_names_look_alike_are_one_series_and_break_nothing(count):
    raw, escaped = job(MEMBER, path="/a\udcff\n"), job(process(2, pages={0: 100}), path="/a\\udcff\\n")

    count.take(tick(snapshot(jobs=[raw, escaped])), 0.0)

    assert paths(count, table.RESIDENT) == ["/a\\udcff\\n"]
    assert count.values()[table.RESIDENT]["/a\\udcff\\n", "default", "0"] == 1000 * 4096


def test_processes_that_had_to_wait_are_counted_under_their_job_where_that_is_known(count):
    cost = LookCost(postponed=(MEMBER.key, ProcessKey(7, 7)))

    for _ in range(2):
        count.take(tick(replace(snapshot(processes=[MEMBER]), cost=cost)), 0.0)

    assert count.values()[table.POSTPONED] == {(JOB,): 2, ("",): 2}


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("[Errno 13] Permission denied: '/proc/7/numa_maps'", "EACCES"),
        ("[Errno 1] move_pages: Operation not permitted", "EPERM"),
        ("stuck in the kernel", "stuck in the kernel"),
        ("stat: '17 (a b'", "not understood"),
    ],
)
def test_why_processes_are_skipped_is_told_in_few_words(count, why, told):
    skipped = [Skipped(ProcessKey(pid, 1), "python3", why) for pid in (7, 8)]

    count.take(tick(skipped=skipped), 0.0)

    assert count.values()[table.SKIPPED] == {(told,): 2}


def test_whether_it_acts_and_who_speaks_against_it_is_told(count, gate):
    acting = count.values()
    gate.close("health", "the kernel oopsed")
    gate.close("operator", "paused by uid 0")

    values = count.values()

    assert (acting[table.ACTING], acting[table.NOT_ACTING], acting[table.PAUSED]) == ({(): 1}, {}, {(): 0})
    assert (values[table.ACTING], values[table.PAUSED]) == ({(): 0}, {(): 1})
    assert values[table.NOT_ACTING] == {
        ("health", "the kernel oopsed"): 1,
        ("operator", "paused by uid 0"): 1,
    }


def test_calls_and_looks_are_counted_by_how_long_they_took(count):
    outcome = Outcome(Ending.DONE, MIB, call_s=(0.0005, 0.01, 0.011, 3.0))

    count.take(turn(outcome), 0.004)

    calls, looks = (dict(count.spreads[metric].buckets) for metric in (table.CALL, table.LOOK))
    assert (calls["0.001"], calls["0.01"], calls["0.02"], calls["1.0"], calls["+Inf"]) == (1, 2, 3, 3, 4)
    assert (looks["0.002"], looks["0.005"], looks["+Inf"]) == (0, 1, 1)
    assert count.spreads[table.CALL].sum_s == pytest.approx(3.0215)


def test_free_memory_and_room_are_told_by_node(count):
    memory = node_memory(
        free={0: GIB, 1: 0}, high_watermark=MIB, inactive_file={0: 5 * MIB, 1: 9 * MIB}, dirty={0: 6 * MIB}
    )

    count.take(tick(memory=memory), 0.0)

    assert count.values()[table.NODE_FREE] == {("0",): GIB, ("1",): 0}
    assert count.values()[table.NODE_ROOM] == {("0",): GIB - MIB, ("1",): 9 * MIB}


def test_the_daemon_tells_its_version_its_turns_and_what_it_costs(count):
    for _ in range(3):
        count.take(tick(replace(snapshot(), cost=LookCost(core_share=0.007))), 0.0)

    values = count.values()
    assert values[table.BUILD] == {(__version__,): 1}
    assert (values[table.TURNS], values[table.CORE_SHARE]) == ({(): 3}, {(): 0.007})
    assert values[table.LAST_TURN][()] == pytest.approx(time.time(), abs=5)
    assert values[table.CPU][()] > 0
    assert 1 < values[table.MEMORY][()] / MIB < 2000


def test_what_was_taken_back_is_told(count):
    assert count.values()[table.TAKEN_BACK] == {("affinity",): 3}


def test_before_the_first_turn_nothing_is_told_of_the_machine(count):
    values = count.values()

    assert values.keys().isdisjoint({table.LAST_TURN, table.RESIDENT, table.NODE_FREE, table.JOBS})


def test_what_the_guard_found_is_counted_by_job_and_begins_at_0(count):
    seen = snapshot(processes=[process()])
    found = [Judged(1, Verdict.HELPED), Judged(1, Verdict.HELPED), Judged(1, Verdict.TAKEN_BACK)]

    count.take(tick(seen, judged=found), 0.0)

    judged = count.values()[table.JUDGED]
    assert {verdict: times for (_, verdict), times in judged.items()} == {
        "helped": 2,
        "taken back": 1,
        "no difference": 0,
        "ping-pong": 0,
        "gave way": 0,
        "unverified": 0,
    }
