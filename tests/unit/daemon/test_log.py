# SPDX-License-Identifier: Apache-2.0

"""The log says what moved, from where, to where, why and in how long; and repeats no surprise for a minute."""

import errno
import io
import logging
from dataclasses import replace
from inspect import signature

import pytest
import structlog
from structlog._native import BoundLoggerFilteringAtDebug

from numad_py.daemon import journald, log
from numad_py.daemon.log import MOST_ALIKE, TickLog
from numad_py.model import (
    Ending,
    Held,
    Judged,
    MoveTasks,
    Outcome,
    ProcessKey,
    Reason,
    Refusal,
    Skipped,
    Verdict,
)
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
        "level=info event=moved pid=1000 comm=python3 job=/train.slice/job policy=default source=0 target=1 "
        "reason=memory-follows-cpu mb=3.0 took_ms=21.3 longest_call_ms=11.9 ending=limit failed=EBUSY:2"
    )


def test_the_figures_that_decided_a_move_are_told_rounded(stream):
    wish = replace(move(JOB), figures={"remote_share": 0.98765, "looks": 2.0, "saving_ns_per_s": 123456.7})

    TickLog().tick(tick(processes=[JOB], moves=[wish], outcomes=[Outcome(Ending.DONE, MIB)]))

    (line,) = told(stream)
    assert line.endswith("ending=done remote_share=0.988 looks=2 saving_ns_per_s=123457")


def test_no_figure_stands_for_a_word_of_the_line(stream):
    wish = replace(move(JOB), figures={"pid": 1.0})

    TickLog().tick(tick(processes=[JOB], moves=[wish], outcomes=[Outcome(Ending.DONE, MIB)]))

    (line,) = told(stream)
    assert line.count("pid=") == line.count("pid=1000 ") == 1


def called(*functions):
    """Give the names of their arguments, as a policy of others may call a figure."""
    return {name.lower() for function in functions for name in signature(function).parameters}


SPECIAL = called(
    *(getattr(BoundLoggerFilteringAtDebug, level) for level in ("debug", "info", "warning", "log")),
    BoundLoggerFilteringAtDebug._proxy_to_logger,  # noqa: SLF001 - its arguments are what collides
    TickLog.surprise,
    journald.journal.send,
    journald.Logger.msg,
    journald.fields,
) | {"timestamp", "logger", "logger_name", "exc_info", "exception", "stack", "priority", "syslog_identifier"}


@pytest.mark.parametrize("name", sorted(SPECIAL))
@pytest.mark.parametrize("output", ["journal", "terminal", "journald"])
@pytest.mark.parametrize(
    "outcome", [Outcome(Ending.DONE, MIB, moved_threads=1), Outcome(Ending.DRY_RUN), Outcome(Ending.STUCK)]
)
def test_no_name_of_a_figure_ends_the_daemon_or_changes_what_the_line_says(
    stream, monkeypatch, output, name, outcome
):
    sent = []
    monkeypatch.setattr(journald.journal, "sendv", lambda *fields: sent.append(fields))
    monkeypatch.setattr(journald, "is_behind", lambda _stream: output == "journald")
    log.configure(stream, foreground=output == "terminal")
    figures = {name: 1.0, "looks": 2.0}
    moves = [replace(move(JOB), figures=figures)]
    task_moves = [MoveTasks(JOB.key, (0, 1), Reason.TASKS_FOLLOW_MEMORY, figures)]

    TickLog().tick(
        tick(processes=[JOB], moves=moves, outcomes=[outcome], task_moves=task_moves, task_outcomes=[outcome])
    )

    lines = told(stream) or [fields[0] for fields in sent]
    fields = [[field.partition("=")[0] for field in each] for each in sent]
    assert ["looks" in line for line in lines] == [True, True]
    assert [each for each in fields if len(set(each)) < len(each)] == []


def test_what_is_held_back_is_told_with_its_figures_and_these_do_not_make_it_new(stream):
    log_ = TickLog()

    for wait_s in (20.0, 15.0):
        log_.tick(turn(held=[Held(JOB.key, MIB, Refusal.BACKOFF, {"wait_s": wait_s})]))

    (line,) = told(stream)
    assert line.endswith('why="backing off after failures" mb=1.0 wait_s=20')


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


def task_turn(outcome, **others):
    """Give a tick with one move of tasks, and what became of it."""
    wish = MoveTasks(JOB.key, (0, 1), Reason.TASKS_FOLLOW_MEMORY)
    return tick(processes=[JOB], task_moves=[wish], task_outcomes=[outcome], **others)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (
            Outcome(Ending.DONE, took_s=0.0021, moved_threads=20, failed={"bound": 1}),
            ['level=info event="tasks moved"', "threads=20 took_ms=2.1 ending=done failed=bound:1"],
        ),
        (
            Outcome(Ending.REFUSED, detail="a sched_ext scheduler is loaded"),
            ['level=warning event="tasks not moved"', 'detail="a sched_ext scheduler is loaded"'],
        ),
        (Outcome(Ending.DRY_RUN), ['level=info event="would move tasks"', "target=0,1"]),
    ],
)
def test_a_move_of_tasks_is_one_line_too(stream, outcome, words):
    TickLog().tick(task_turn(outcome))

    (line,) = told(stream)
    assert [word for word in words if word not in line] == []


def test_tasks_that_are_where_they_should_be_are_not_worth_a_line(stream):
    TickLog().tick(task_turn(Outcome(Ending.DONE, failed={"bound": 1})))

    assert told(stream) == []


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


def test_of_one_kind_no_more_than_a_hundred_are_told_in_a_minute_and_others_are(stream):
    log_ = TickLog()

    for job in range(10_000):
        log_.surprise("label ignored", 0.0, job=f"/user/{job}")
    log_.surprise("skipped", 0.0, pid=1)

    lines = told(stream)
    assert len(lines) == MOST_ALIKE + 2
    assert lines[-2:] == [
        'level=warning event="not told" of="label ignored" why="there were 100 within a minute"',
        "level=warning event=skipped pid=1",
    ]


def test_a_minute_later_they_are_told_again(stream):
    log_ = TickLog()
    for job in range(MOST_ALIKE + 1):
        log_.surprise("label ignored", 100.0, job=f"/user/{job}")
    told(stream)

    log_.tick(turn(time_s=161.0))
    log_.surprise("label ignored", 161.0, job="/user/0")

    assert told(stream) == ['level=warning event="label ignored" job=/user/0']


def test_what_is_said_once_is_said_again_only_if_it_was_no_longer_so(stream):
    log_ = TickLog()

    for whys in (["a", "b"], ["b"], ["a", "b"]):
        log_.once("not seen", whys)

    assert [line[-1] for line in told(stream)] == ["a", "b", "a"]


class Gone(io.StringIO):
    """Whoever read this stream is gone."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_lines_that_nobody_takes_are_lost_and_nothing_else():
    log.configure(Gone(), foreground=False)

    structlog.get_logger().info("started")

    structlog.reset_defaults()


def test_what_the_guard_found_is_told_with_its_figures(stream):
    judged = Judged(1, Verdict.TAKEN_BACK, {"speed_change_share": -0.12345})

    TickLog().tick(turn(judged=[judged]))

    (line,) = told(stream)
    assert line == (
        'level=info event=judged job=/train.slice/job policy=default verdict="taken back" speed_change_share=-0.123'
    )
