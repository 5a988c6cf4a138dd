# SPDX-License-Identifier: Apache-2.0

"""The log says what moved, from where, to where, why and in how long; and repeats no surprise for a minute."""

import io
import logging

import pytest
import structlog

from numad_py.daemon import log
from numad_py.daemon.log import TickLog
from numad_py.model import Ending, Held, Outcome, ProcessKey, Refusal, Skipped
from tests.builders import MIB, move, process, tick

JOB = process(1000, pages={0: 900}, comm="python3")


@pytest.fixture
def stream():
    """Give what is logged for the journal."""
    stream = io.StringIO()
    log.configure(stream, foreground=False)
    yield stream
    structlog.reset_defaults()


def told(stream):
    """Give the lines since the last call."""
    lines = stream.getvalue().splitlines()
    stream.seek(0)
    stream.truncate()
    return lines


def turn(outcome=None, *, time_s=100.0, **others):
    """Give a tick, with one move if ``outcome`` is what became of it."""
    moves, outcomes = ([], []) if outcome is None else ([move(JOB, limit_bytes=3 * MIB)], [outcome])
    return tick(time_s=time_s, processes=[JOB], moves=moves, outcomes=outcomes, **others)


def test_a_move_is_one_line_that_says_what_from_where_to_where_why_and_in_how_long(stream):
    outcome = Outcome(Ending.LIMIT, 3 * MIB, {"EBUSY": 2}, took_s=0.0213, call_s=(0.004, 0.0119))

    TickLog().tick(turn(outcome))

    (line,) = told(stream)
    assert line == (
        "level=info event=moved pid=1000 comm=python3 job=/train.slice/job source=0 target=1 "
        "reason=memory-follows-cpu mb=3.0 took_ms=21.3 longest_call_ms=11.9 ending=limit failed=EBUSY:2"
    )


def test_every_move_is_told(stream):
    log_ = TickLog()

    for time_s in (100.0, 101.0):
        log_.tick(turn(Outcome(Ending.DONE, MIB), time_s=time_s))

    assert len(told(stream)) == 2


def test_a_move_that_found_everything_in_place_is_not_worth_a_line(stream):
    TickLog().tick(turn(Outcome(Ending.DONE)))

    assert told(stream) == []


def test_a_move_that_came_to_nothing_says_why(stream):
    TickLog().tick(turn(Outcome(Ending.REFUSED, detail="node 1 is outside the cpuset of the process")))

    (line,) = told(stream)
    assert line.startswith('level=warning event="not moved" pid=1000')
    assert line.endswith('ending=refused detail="node 1 is outside the cpuset of the process"')


def test_observing_says_what_would_move(stream):
    TickLog().tick(turn(Outcome(Ending.DRY_RUN)))

    (line,) = told(stream)
    assert line.startswith('level=info event="would move" pid=1000')
    assert line.endswith("source=0 target=1 reason=memory-follows-cpu mb=3.0")


SURPRISES = {
    "would move": lambda at, _: turn(Outcome(Ending.DRY_RUN), time_s=at),
    "not moved": lambda at, mb: turn(Outcome(Ending.DONE, failed={"EACCES": mb}), time_s=at),
    "held back": lambda at, mb: turn(time_s=at, held=[Held(JOB.key, mb * MIB, Refusal.NO_ROOM)]),
    "skipped": lambda at, _: turn(
        time_s=at, skipped=[Skipped(ProcessKey(7, 1), "init", "Permission denied")]
    ),
}


@pytest.mark.parametrize("event", SURPRISES)
def test_nothing_is_said_twice_within_a_minute_even_with_other_figures(stream, event):
    log_, surprise = TickLog(), SURPRISES[event]

    for time_s in (100.0, 101.0, 159.9):
        log_.tick(surprise(time_s, int(time_s)))
    within = told(stream)
    log_.tick(surprise(160.0, 1))

    assert len(within) == 1
    assert f'event="{event}"' in within[0] or f"event={event}" in within[0]
    assert len(told(stream)) == 1


def test_another_reason_is_told_at_once(stream):
    log_ = TickLog()

    log_.tick(turn(held=[Held(JOB.key, MIB, Refusal.NO_ROOM)]))
    log_.tick(turn(held=[Held(JOB.key, MIB, Refusal.RATE)]))

    assert ["no room" in line for line in told(stream)] == [True, False]


def test_what_was_said_long_ago_is_forgotten(stream):
    log_ = TickLog()

    for time_s in range(0, 10_000, 100):
        log_.surprise("label ignored", time_s, job=f"/{time_s}", why="none")
        log_.tick(tick(time_s=time_s))

    assert len(log_._said_s) == 1  # noqa: SLF001 - nothing but its size would show a leak


def test_a_turn_is_a_line_only_for_who_asks(stream):
    TickLog().tick(turn())
    assert told(stream) == []

    log.configure(stream, foreground=False, level=logging.DEBUG)
    TickLog().tick(turn(Outcome(Ending.DONE, took_s=0.25)), look_s=0.0312)

    assert told(stream) == ["level=debug event=tick jobs=1 processes=1 moves=1 look_ms=31.2 move_ms=250.0"]


@pytest.mark.parametrize("foreground", [True, False])
def test_a_name_that_commands_a_terminal_is_escaped(stream, foreground):
    log.configure(stream, foreground=foreground)
    hostile = process(1000, pages={0: 9}, comm="a\x1b]0;b\x07\nc d\u202e")
    wish = move(hostile)

    TickLog().tick(tick(processes=[hostile], moves=[wish], outcomes=[Outcome(Ending.DONE, MIB)]))

    (line,) = told(stream)
    assert line.isprintable()
    assert "a\\x1b]0;b\\x07\\nc d\\u202e" in line.replace("\\\\", "\\")


def test_in_the_foreground_a_line_begins_with_the_time_of_day(stream):
    log.configure(stream, foreground=True)

    TickLog().surprise("label ignored", 0.0, job="/a")

    assert stream.getvalue()[2:6:3] == "::"
    assert "label ignored" in stream.getvalue()
