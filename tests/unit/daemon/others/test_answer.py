# SPDX-License-Identifier: Apache-2.0

"""An answer is read strictly: what cannot be wished of the snapshot that was shown is refused in a sentence."""

import json

import pytest

from numad_py.daemon.others import answer
from numad_py.daemon.others.answer import Refused, decoded, plan_of
from numad_py.model import Mempolicy, Plan, Reason
from numad_py.policies.interleave import Interleave, InterleaveParameters
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests import two_nodes
from tests.builders import HEAP, move, plain, process, regions, snapshot

WORKER = process(100, regions=regions({0: 300, 1: 100}, {0: 50}))
BOUND = process(200, regions=regions({0: 10}, mempolicy=Mempolicy.BIND))
SEEN = snapshot(processes=[WORKER, BOUND])
FIRST_END = HEAP + 400 * 4096
SECOND = FIRST_END + (1 << 20)


def wished(**words):
    """Give the plan of an answer with one move of the worker."""
    return said(moves=[{"process": [100, 7], "targets": [1]} | words])


def said(**words):
    return plan_of(decoded(json.dumps({"number": 3} | words).encode()), SEEN)


def refusal(line):
    with pytest.raises(Refused) as refused:
        plan_of(decoded(line if isinstance(line, bytes) else json.dumps(line).encode()), SEEN)
    return str(refused.value)


def test_what_is_left_out_is_all_that_may_be_moved_from_every_other_node():
    (found,) = wished().moves

    assert plain(found) == plain(move(WORKER, limit_bytes=350 * 4096))


def test_only_regions_with_pages_at_the_sources_are_meant():
    (found,) = wished(sources=[1], targets=[0]).moves

    assert (found.start.tolist(), found.limit_bytes) == ([HEAP], 100 * 4096)


def test_ranges_and_a_limit_of_its_own_are_taken_as_they_are():
    spans = {"start": [HEAP + 4096, SECOND], "end": [HEAP + 8192, SECOND + 4096]}

    (found,) = wished(**spans, limit_bytes=8192, reason="spread", figures={"saved_ns": 7}).moves

    assert (found.start.tolist(), found.end.tolist()) == (spans["start"], spans["end"])
    assert found.figures == {"saved_ns": 7}
    assert (found.page_bytes.tolist(), found.limit_bytes, found.reason) == ([4096] * 2, 8192, Reason.SPREAD)


def test_no_limit_is_more_than_is_there_and_nothing_is_ever_all_of_a_process():
    (found,) = wished(limit_bytes=1 << 60).moves

    assert (found.limit_bytes, found.whole) == (350 * 4096, False)


def test_threads_may_be_wished_elsewhere():
    plan = said(task_moves=[{"process": [100, 7], "nodes": [1]}])

    assert [(each.process.pid, each.nodes, each.reason) for each in plan.task_moves] == [
        (100, (1,), Reason.TASKS_FOLLOW_MEMORY)
    ]


def test_an_answer_without_wishes_is_one():
    assert plain(said()) == plain(Plan())


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.TAKEN_BACK])
def test_every_reason_but_the_guards_own_may_be_given(reason):
    plan = said(
        moves=[{"process": [100, 7], "targets": [1], "reason": reason}],
        task_moves=[{"process": [100, 7], "nodes": [1], "reason": reason}],
    )

    assert {each.reason for each in (*plan.moves, *plan.task_moves)} == {reason}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"process": [300, 7]}, "process [300, 7] is none of those that it was shown"),
        ({"process": [100, 8]}, "process [100, 8] is none of those that it was shown"),
        ({"targets": [2]}, "there is no node 2"),
        ({"targets": [1, 1]}, "a node stands twice in [1, 1]"),
        ({"sources": [7]}, "there is no node 7"),
        ({"start": [HEAP]}, "ranges of process 100: there are not as many ends as starts"),
        ({"start": [HEAP], "end": [HEAP]}, "ranges of process 100 do not ascend, or overlap"),
        ({"start": [SECOND, HEAP], "end": [SECOND + 4096, HEAP + 4096]}, "do not ascend"),
        ({"start": [HEAP, HEAP], "end": [HEAP + 8192, HEAP + 4096]}, "do not ascend, or overlap"),
        ({"start": [4096], "end": [8192]}, "0x1000-0x2000 of process 100 are in no region that may be moved"),
        ({"start": [HEAP], "end": [FIRST_END + 4096]}, "are in no region that may be moved"),
        ({"start": [HEAP], "end": [SECOND + 4096]}, "are in no region that may be moved"),
        ({"start": [HEAP + 1], "end": [HEAP + 4096]}, "are no whole pages"),
        ({"process": [200, 7], "start": [HEAP], "end": [HEAP + 4096]}, "are in no region that may be moved"),
        ({"reason": "taken-back"}, "process 100: the reason taken-back is the guard's own"),
    ],
)
def test_a_move_that_makes_no_sense_of_the_snapshot_is_refused(words, why):
    line = {"number": 3, "moves": [{"process": [100, 7], "targets": [1]} | words]}

    assert why in refusal(line)


def test_a_move_to_nowhere_or_of_less_than_nothing_is_refused_of_a_class_too():
    for wish in (move(WORKER, targets=()), move(WORKER, limit_bytes=-1)):
        with pytest.raises(Refused, match="goes nowhere, or is of less than nothing"):
            answer.check(Plan((wish,)), SEEN)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not an answer: Input data was truncated"),
        (b"{", "not an answer: Input data was truncated"),
        (b"garbage", "not an answer: JSON is malformed"),
        (b"\xff\xfe", "not an answer: JSON is malformed"),
        (b"[" * 100_000, "not an answer: "),
        (b"[1]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `number`"),
        (b'{"number": NaN}', "JSON is malformed"),
        (b'{"number": 1e999}', "not an answer: "),
        (b'{"number": -1}', "Expected `int` >= 0"),
        (b'{"number": 1, "move": []}', "unknown field `move`"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": []}]}, "length >= 1"),
        ({"number": 1, "moves": [{"process": [100], "targets": [1]}]}, "length 2"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [-1]}]}, "Expected `int` >= 0"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1], "limit_bytes": -1}]}, ">= 0"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1], "start": [1 << 64]}]}, "not an answer"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1], "whole": True}]}, "unknown field `whole`"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1], "reason": "mine"}]}, "Invalid enum value"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1], "figures": {"a b": 1}}]}, "matching regex"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1], "figures": dict.fromkeys("abcdefghijklmnopq", 1)}]}, "length <= 16"),
        ({"number": 1, "moves": [{"process": [100, 7], "targets": [1]}] * 1025}, "length <= 1024"),
        ({"number": 1, "task_moves": [{"process": [100, 7], "nodes": [9]}]}, "there is no node 9"),
        ({"number": 1, "task_moves": [{"process": [1, 7], "nodes": [1]}]}, "none of those that it was shown"),
        ({"number": 1, "task_moves": [{"process": [100, 7], "nodes": [1], "reason": "taken-back"}]}, "process 100: the reason taken-back is the guard's own"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(line, why):
    assert why in refusal(line)


def test_no_process_is_wished_elsewhere_more_often_than_there_are_nodes():
    wish = {"process": [100, 7], "targets": [1]}

    assert len(said(moves=[wish] * 2).moves) == 2
    assert refusal({"number": 1, "moves": [wish] * 3}) == (
        "process 100 is to be moved 3 times, and there are 2 nodes"
    )


def test_a_refusal_is_no_longer_than_a_line_of_a_log_may_be():
    assert len(refusal({"number": 1, "x" * 100_000: 1})) < 300


def test_a_process_without_memory_has_no_range():
    seen = snapshot(processes=[process(5)])
    found = decoded(
        b'{"number": 1, "moves": [{"process": [5, 7], "targets": [1], "start": [0], "end": [4096]}]}'
    )

    with pytest.raises(Refused, match="process 5 has no memory that may be moved"):
        plan_of(found, seen)


@pytest.mark.parametrize(
    "policy",
    [Threshold(ThresholdParameters(least_remote_mb=0.0)), Interleave(InterleaveParameters(least_mb=0.0))],
)
def test_what_policies_of_our_own_wish_is_never_refused(policy):
    plans = [(policy.decide(each.snapshot), each.snapshot) for each in two_nodes.ticks()]

    for plan, seen in plans:
        answer.check(plan, seen)
    assert any(plan.moves for plan, _ in plans)
