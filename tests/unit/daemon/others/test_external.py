# SPDX-License-Identifier: Apache-2.0

"""Whatever a program does, a turn has its wishes in time, or none; after some without, a policy of our own stands in."""

import io
import os
import time
from dataclasses import replace

import pytest
import structlog

from numad_py import policies, profiles, trace
from numad_py.daemon import log
from numad_py.daemon.others.external import AGAIN_S, External
from numad_py.guard import Guard, Limits
from numad_py.model import Decision, Ending, LookCost, Outcome, Plan, ProcessKey, Refusal, Skipped, Tick
from numad_py.policies.hold import Hold
from numad_py.profiles import ExternalParameters
from tests.builders import MIB, TWO_NODES, move, plain, process, snapshot, tick, topology
from tests.unit.daemon.others.programs import listening, saying, silent, wishing

WORKER = process(100, pages={0: 30_000, 1: 100}, cpu_s={1: 0.5})
BRING = {"process": [100, 7], "targets": [1]}
NOBODY = 65534


@pytest.fixture
def stream():
    """Hold what the log says."""
    stream = io.StringIO()
    log.configure(stream, foreground=False)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
def ask(tmp_path, stream, monkeypatch):
    """Give a function that makes the policy which asks at a socket, patient unless told otherwise."""
    monkeypatch.setattr(profiles, "LONGEST_DEADLINE_MS", 60_000)
    made = []

    def make(**parameters):
        parameters = {"socket": str(tmp_path / "policy"), "deadline_ms": 30_000} | parameters
        header = trace.Header(TWO_NODES, "6.1", "", 0.0)
        made.append(External("mine", ExternalParameters(**parameters), lambda: header, log.TickLog()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def look(time_s=100.0, **seen):
    return snapshot(time_s, **{"processes": [WORKER]} | seen)


def turns(policy, count, time_s=100.0):
    """Give the plans of so many turns, a second apart."""
    return [policy.decide(look(time_s + turn)) for turn in range(count)]


def slow(self, stdio):
    """Begin an answer, and go on with it for ever."""
    for _ in self.lines(stdio):
        while True:
            stdio.write(b" ")
            time.sleep(0.001)


def flooding(self, stdio):
    """Answer what was asked long ago, for ever."""
    while True:
        stdio.write(b'{"number": 0}\n' * 1000)


def leaving(self, stdio):
    """End in the middle of an answer."""
    next(iter(self.lines(stdio)))
    stdio.write(b'{"number": 0, "mov')


def test_it_wishes_what_the_program_wishes(ask, tmp_path):
    with listening(tmp_path / "policy", wishing(BRING)):
        first, second = turns(policy := ask(), 2)

    assert [move.limit_bytes for move in (*first.moves, *second.moves)] == [30_000 * 4096] * 2
    assert (policy.missed, policy.why) == (0, "")


def test_the_program_is_told_the_machine_first_and_then_every_look(ask, tmp_path):
    with listening(tmp_path / "policy", wishing()) as program:
        turns(ask(), 2)

    assert [told["type"] for told in program.told] == ["header", "tick", "tick"]
    assert program.told[0]["topology"]["nodes"][1]["cpus"] == [2, 3]
    assert [told["time_s"] for told in program.told[1:]] == [100.0, 101.0]
    assert program.connected == 1


def test_the_program_is_told_of_no_process_but_those_of_its_jobs(ask, tmp_path):
    stranger = ProcessKey(666, 7)
    seen = replace(
        look(), skipped=(Skipped(stranger, "secret", "busy"),), cost=LookCost(postponed=(stranger,))
    )

    with listening(tmp_path / "policy", wishing()) as program:
        ask().decide(seen)

    assert "666" not in str(program.told)
    assert "secret" not in str(program.told)


def test_nobody_is_asked_while_there_is_no_job(ask, tmp_path):
    with listening(tmp_path / "policy", silent) as program:
        plan = ask().decide(snapshot())

    assert plain(plan) == plain(Plan())
    assert program.connected == 0


def test_the_program_is_told_what_came_of_its_last_wishes_and_of_no_others(ask, tmp_path):
    policy, came_to = ask(), tick(look(), moves=[move(WORKER)], outcomes=[Outcome(Ending.DONE, 4096)])

    with listening(tmp_path / "policy", wishing(BRING)) as program:
        for time_s in (100.0, 101.0):
            policy.review(came_to)
            policy.decide(look(time_s))

    _, first, second = program.told
    assert (first["outcomes"], [each["moved_bytes"] for each in second["outcomes"]]) == ([], [4096])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"x" * (2 << 20), "a line of more than 1 MiB"),
        (b"garbage\n", "not an answer: JSON is malformed"),
        (b"\n", "not an answer: Input data was truncated"),
        (b'{"number": 0, "moves": [{"process": [1, 7], "targets": [1]}]}\n', "process [1, 7] is none of those"),
        (b'{"number": 0, "moves": [{"process": [100, 7], "targets": [-1]}]}\n', "Expected `int` >= 0"),
        (b'{"number": 0, "moves": [{"process": [100, 7], "targets": [NaN]}]}\n', "JSON is malformed"),
        (b'{"number": 0, "moves": [{"process": [100, 7], "targets": [9]}]}\n', "there is no node 9"),
        (b'{"number": 9}\n', "it answers tick 9"),
        (b"\x1b[2J\n", "not an answer"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_turn_without_wishes_and_is_told(ask, tmp_path, stream, line, why):
    with listening(tmp_path / "policy", saying(line)):
        (plan,) = turns(policy := ask(), 1)

    assert plain(plan) == plain(Plan())
    assert policy.missed == 1
    assert 'event="policy not heard" profile=mine' in stream.getvalue()
    assert why in stream.getvalue()


@pytest.mark.parametrize("program", [silent, slow, flooding], ids=lambda program: program.__name__)
def test_no_turn_waits_longer_than_the_deadline(ask, tmp_path, stream, program):
    with listening(tmp_path / "policy", program):
        plans = turns(ask(deadline_ms=10), 2)

    assert [plain(plan) for plan in plans] == [plain(Plan())] * 2
    assert "it did not answer in time" in stream.getvalue()


def test_one_that_ends_in_the_middle_of_a_line_is_connected_to_anew(ask, tmp_path):
    with listening(tmp_path / "policy", leaving) as program:
        turns(policy := ask(), 2)

    assert (policy.missed, program.connected) == (2, 2)


def test_where_nobody_listens_another_policy_stands_in_and_it_is_said_once(ask, stream, tmp_path):
    policy = ask(fallback="threshold")

    plans = turns(policy, 6)

    assert [len(plan.moves) for plan in plans] == [0, 0, 1, 1, 1, 1]  # it has a patience of its own
    assert str(tmp_path / "policy") in policy.why
    assert "No such file or directory" in policy.why
    assert stream.getvalue().count("policy replaced") == 1
    assert "threshold stands in for it until it answers" in stream.getvalue()
    assert policy.explain(WORKER.key).decision is Decision.MOVE


def test_who_stands_in_is_told_what_came_of_its_wishes(ask, monkeypatch):
    told = []

    class StandIn(Hold):
        def review(self, tick):
            told.append(tick)

    monkeypatch.setitem(policies.BUILT_IN, "hold", StandIn)
    policy, last = ask(fallback="hold"), Tick(look(), Plan(), ())

    turns(policy, 1)
    policy.review(last)
    while_asked = [*told]
    turns(policy, 3)
    policy.review(last)

    assert (while_asked, told) == ([], [last])


def test_one_that_was_replaced_is_asked_anew_after_a_while_and_heard_again(ask, tmp_path, stream):
    policy = ask()
    turns(policy, 3)
    with listening(tmp_path / "policy", wishing(BRING)) as program:
        before = policy.decide(look(102.0 + AGAIN_S - 1))
        connected = program.connected

        again = policy.decide(look(102.0 + AGAIN_S))

    assert (before.moves, connected, len(again.moves), policy.why) == ((), 0, 1, "")
    assert 'event="policy heard again" profile=mine' in stream.getvalue()


def test_one_that_is_still_silent_then_is_given_as_many_turns_and_no_more_until_the_next_time(
    ask, tmp_path, stream
):
    with listening(tmp_path / "policy", silent) as program:
        policy = ask(deadline_ms=10)
        turns(policy, 3)
        turns(policy, 5, time_s=102.0 + AGAIN_S)

    assert (policy.missed, program.connected) == (6, 2)
    assert stream.getvalue().count("policy replaced") == 1


def test_another_answer_begins_the_count_of_missed_turns_anew(ask, tmp_path):
    answers = iter([b"garbage\n", b"garbage\n", b'{"number": 2}\n', b"garbage\n", b"garbage\n"])

    def moody(self, stdio):
        for told in self.lines(stdio):
            if told["type"] == "tick":
                stdio.write(next(answers))

    with listening(tmp_path / "policy", moody):
        turns(policy := ask(), 5)

    assert (policy.missed, policy.why) == (4, "")


def test_another_topology_is_told_in_a_connection_of_its_own(ask, tmp_path):
    three = topology(3)
    grown = process(100, pages={0: 900}, on=three)

    with listening(tmp_path / "policy", wishing(BRING)) as program:
        policy = ask()
        policy.decide(look())
        plan = policy.decide(look(101.0, processes=[grown], on=three))

    headers = [told for told in program.told if told["type"] == "header"]
    assert [len(header["topology"]["nodes"]) for header in headers] == [2, 3]
    assert plan.moves[0].sources == (0, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a socket to others")
def test_a_socket_that_a_user_put_there_is_not_connected_to(ask, tmp_path, stream):
    with listening(tmp_path / "policy", wishing(BRING)) as program:
        os.chown(tmp_path / "policy", NOBODY, NOBODY)
        (plan,) = turns(ask(), 1)

    assert (plan.moves, program.connected) == ((), 0)
    assert f"belongs to uid {NOBODY}, allowed is root" in stream.getvalue()


def test_a_program_that_wishes_everything_at_every_turn_gets_what_the_limits_allow(ask, tmp_path):
    crowded = {"number": 0, "task_moves": [{"process": [100, 7], "nodes": [1]}]}
    with listening(tmp_path / "policy", wishing(BRING, task_moves=crowded["task_moves"])):
        guarded = Guard(ask(), Limits(limit_mb_per_s=1))
        plans = turns(guarded, 4)

    granted = [sum(move.limit_bytes for move in plan.moves) for plan in plans]
    assert granted == [0, MIB, MIB, MIB]
    assert [plan.task_moves for plan in plans] == [()] * 4
    assert {held.why for plan in plans for held in plan.held} == {Refusal.RATE, Refusal.TASKS}


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"socket": "policy"}, "socket: an absolute path is needed"),
        ({"deadline_ms": 0}, "deadline_ms: more than 0, and at most 1000"),
        ({"deadline_ms": 1001}, "deadline_ms: more than 0, and at most 1000"),
        ({"patience": 0}, "patience: at least 1"),
        ({"keyframe_every": 0}, "keyframe_every: at least 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters, why):
    with pytest.raises(ValueError, match=why):
        ExternalParameters(**parameters)
