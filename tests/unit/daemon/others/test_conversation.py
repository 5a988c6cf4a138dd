# SPDX-License-Identifier: Apache-2.0

"""A conversation goes on in the turn after where it was, and never takes a late answer for one to another look."""

import contextlib
import json
import socket
import time

import pytest

from numad_py import trace
from numad_py.daemon.others.answer import Refused
from numad_py.daemon.others.conversation import LINE_BYTES, Conversation
from numad_py.model import Ending, Outcome, Plan
from tests.builders import TWO_NODES, move, plain, process, regions, snapshot, tick

HEADER = trace.Header(TWO_NODES, "6.1", "", 0.0)
WORKER = process(100, pages={0: 300, 1: 100}, cpu_s={1: 0.5})
SEEN = snapshot(processes=[WORKER])
WISH = {"process": [100, 7], "targets": [1]}


@pytest.fixture
def ends():
    """Give the two ends of a connection: ours, and the program's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def program(ends):
    return ends[1]


@pytest.fixture
def conversation(ends):
    return Conversation(ends[0], HEADER, keyframe_every=1)


def answered(program, number, *wishes):
    """Have the program answer; what is sent before it was asked waits to be read."""
    program.sendall(json.dumps({"number": number, "moves": wishes}).encode() + b"\n")


def asked(conversation, seen=SEEN, *, patience_s=30.0):
    return conversation.decide(seen, time.monotonic() + patience_s)


def too_late(conversation, seen=SEEN):
    with pytest.raises(TimeoutError):
        asked(conversation, seen, patience_s=0.01)


def read(program, tmp_path):
    """Give what the program has been sent so far, as anybody reads a trace."""
    program.settimeout(0.05)
    path, sent = tmp_path / "sent.jsonl", b""
    try:
        while piece := program.recv(1 << 20):
            sent += piece
    except TimeoutError:
        path.write_bytes(sent)
    header, ticks = trace.read(path)
    return header, list(ticks)


def test_an_answer_is_a_plan(conversation, program):
    answered(program, 0, WISH)

    plan = asked(conversation)

    assert [(wish.process.pid, wish.targets) for wish in plan.moves] == [(100, (1,))]


def test_what_the_program_reads_is_a_trace_that_tells_what_came_of_the_plan_before(
    conversation, program, tmp_path
):
    answered(program, 0)
    answered(program, 1)
    came_to = tick(SEEN, moves=[move(WORKER)], outcomes=[Outcome(Ending.DONE, 4096)])

    asked(conversation)
    conversation.review(came_to)
    asked(conversation, later := snapshot(101.0, processes=[WORKER]))

    header, (first, second) = read(program, tmp_path)
    assert (header.topology, header.kernel) == (TWO_NODES, "6.1")
    assert plain(first.snapshot) == plain(SEEN)
    assert plain(second.snapshot) == plain(later)
    assert (first.plan.moves, len(second.plan.moves), second.outcomes[0].moved_bytes) == ((), 1, 4096)


def test_who_wants_it_is_told_of_regions_what_changed_alone(ends):
    conversation = Conversation(ends[0], HEADER, keyframe_every=60)
    answered(ends[1], 0)
    answered(ends[1], 1)

    asked(conversation)
    asked(conversation)

    _, first, second = ends[1].recv(1 << 20).splitlines()
    assert b'"regions"' in first
    assert b'"regions"' not in second


def test_an_answer_that_comes_too_late_is_passed_over(conversation, program):
    too_late(conversation)
    answered(program, 0, WISH)
    answered(program, 1)

    assert plain(asked(conversation)) == plain(Plan())


def test_half_an_answer_is_read_on_in_the_turn_after(conversation, program):
    program.sendall(b'{"num')
    too_late(conversation)
    program.sendall(b'ber": 0}\n')
    answered(program, 1, WISH)

    assert len(asked(conversation).moves) == 1


def test_an_answer_to_what_was_never_asked_is_refused(conversation, program):
    answered(program, 7, WISH)

    with pytest.raises(Refused, match="it answers tick 7, and the last one was 0"):
        asked(conversation)


def test_after_garbage_the_next_line_is_read_as_ever(conversation, program):
    program.sendall(b"garbage\n")
    answered(program, 1, WISH)

    with pytest.raises(Refused, match="not an answer"):
        asked(conversation)

    assert len(asked(conversation).moves) == 1


def test_a_program_that_does_not_read_gets_one_tick_whole_and_none_queues(ends):
    ours, program = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    many = process(100, regions=regions(*[{0: 1}] * 5000))
    conversation = Conversation(ours, HEADER, keyframe_every=1)

    for time_s in range(1, 5):
        too_late(conversation, snapshot(float(time_s), processes=[many]))
    read, time_s = b"", 5.0
    while read.count(b"\n") < 3:
        read += program.recv(1 << 20)
        too_late(conversation, snapshot(time_s := time_s + 1, processes=[WORKER]))

    _, first, second = (json.loads(line) for line in read.splitlines()[:3])
    assert (first["number"], first["time_s"], len(first["jobs"][0]["processes"])) == (0, 1.0, 1)
    assert (second["number"], second["time_s"] > 5) == (1, True)


@pytest.mark.parametrize("sent", [b"x" * (LINE_BYTES + 1), b'{"number": ' + b"1" * LINE_BYTES])
def test_a_line_without_an_end_ends_the_conversation(conversation, program, sent):
    program.setblocking(False)  # noqa: FBT003 - as sockets have it
    left = memoryview(sent)

    with pytest.raises(ConnectionError, match="a line of more than 1 MiB"):  # noqa: PT012 - it comes in pieces
        for _ in range(10_000):
            with contextlib.suppress(BlockingIOError):  # it has not taken what was sent before
                left = left[program.send(left) if left else 0 :]
            with contextlib.suppress(TimeoutError):
                asked(conversation, patience_s=0.001)


def test_a_program_that_ends_in_the_middle_of_a_line_is_told(conversation, program):
    program.sendall(b'{"number": 0, "mov')
    program.close()

    with pytest.raises(ConnectionError):
        asked(conversation)


def test_a_program_that_says_nothing_more_is_told(conversation, program):
    program.shutdown(socket.SHUT_WR)

    with pytest.raises(ConnectionError, match="it ended"):
        asked(conversation)


def test_there_is_none_where_nobody_listens(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/none'"):
        Conversation.at(str(tmp_path / "none"), HEADER, keyframe_every=1)
