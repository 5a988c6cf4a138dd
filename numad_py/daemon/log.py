# SPDX-License-Identifier: Apache-2.0

"""Say what happened: a line per move, in the words of the trace."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from numad_py.daemon import journald
from numad_py.model import Ending, MovePages, MoveTasks, Outcome, ProcessKey, Tick

REPEAT_S = 60.0
THREE_DIGITS = 1000
MOST_ALIKE = 100  # of one kind in that time: whoever makes cgroups without end must not fill the journal
_FIGURES = {"mb", "failed"}  # which differ from look to look where nothing is new
# Others may call figures anything. These are arguments of structlog, or rendered in its own way; and of journal.send().
_NO_FIGURES = {
    *("self", "method_name", "level", "event", "timestamp", "logger", "logger_name"),
    *("exc_info", "exception", "stack"),
    *("message", "message_id", "code_file", "code_line", "code_func", "syslog_identifier", "priority"),
    "object_pid",  # journald takes root's word for whose line it is
}


def configure(stream: TextIO | None = None, *, foreground: bool, level: int = logging.INFO) -> None:
    """Log to a stream, else to stderr: for a terminal, or as key=value; to journald where stderr leads there.

    Lines that nobody takes are lost: the journal may be gone, or whoever read us.
    """
    stream = stream or sys.stderr
    to_journald = not foreground and journald.is_behind(stream)
    logfmt = structlog.processors.LogfmtRenderer(key_order=["level", "event"])
    renderer: structlog.types.Processor = journald.fields if to_journald else logfmt
    if foreground:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    stream = cast(TextIO, _Patient(stream))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)] if foreground else []),
            _printable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=(lambda: journald.Logger(stream))
        if to_journald
        else structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


class _Patient:
    """A stream of which writing never fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._lose_what_nobody_takes(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._lose_what_nobody_takes(self._stream.flush)

    def _lose_what_nobody_takes(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except BrokenPipeError:
            # Python writes what waits once more at its end, and ends with 120 where that fails; its documentation
            # of signal.SIGPIPE advises this.
            with suppress(OSError), Path(os.devnull).open("wb") as nobody:
                os.dup2(nobody.fileno(), self._stream.fileno())
        except OSError:
            return


def _printable(_logger: object, _level: str, words: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, word in words.items():
        if isinstance(word, str):
            words[key] = printable(word)
    return words


def printable(word: str) -> str:
    """Escape control characters: a command or a cgroup may be called anything, a terminal's commands too."""
    if word.isprintable():
        return word
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in word)


class TickLog:
    """Tells of each tick what an operator wants to know, and no surprise twice within a minute."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._said_s: dict[tuple[object, ...], float] = {}
        self._alike = Counter[object]()  # of those, by event
        self._said_last: dict[str, tuple[str, ...]] = {}

    def tick(self, tick: Tick, look_s: float = 0.0) -> None:
        """Tell of one turn of the loop, of which looking took ``look_s``."""
        snapshot = tick.snapshot
        self._forget_before(snapshot.time_s - REPEAT_S)
        who = _who(tick)
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            self._move(move, outcome, who[move.process], snapshot.time_s)
        for task_move, outcome in zip(tick.plan.task_moves, tick.task_outcomes, strict=True):
            self._move_tasks(task_move, outcome, who[task_move.process], snapshot.time_s)
        for held in tick.plan.held:
            words = who[held.process] | {"why": str(held.why), "mb": _mb(held.bytes)}
            self.surprise("held back", snapshot.time_s, figures=held.figures, **words)
        self._judged(tick)
        for skipped in snapshot.skipped:
            pid, comm, why = skipped.process.pid, skipped.comm, skipped.why
            self.surprise("skipped", snapshot.time_s, pid=pid, comm=comm, why=why)
        self._log.debug(
            "tick",
            jobs=len(snapshot.jobs),
            processes=len(snapshot.processes),
            moves=len(tick.plan.moves),
            look_ms=_ms(look_s),
            move_ms=_ms(sum(outcome.took_s for outcome in tick.outcomes)),
        )

    def surprise(
        self,
        event: str,
        time_s: float,
        *,
        level: str = "warning",
        figures: Mapping[str, float] = {},
        **words: Any,
    ) -> None:
        """Say it, unless the same was said within the last minute; figures do not make it new."""
        what = (event, *(value for key, value in sorted(words.items()) if key not in _FIGURES))
        if what in self._said_s or self._alike[event] > MOST_ALIKE:
            return
        self._said_s[what] = time_s
        self._alike[event] += 1
        if self._alike[event] > MOST_ALIKE:
            self._log.warning("not told", of=event, why=f"there were {MOST_ALIKE} within a minute")
        else:
            self._log.log(getattr(logging, level.upper()), event, **_with_figures(words, figures))

    def once(self, event: str, whys: Collection[str]) -> None:
        """Say each of them, unless it was among those of the last call."""
        said, self._said_last[event] = self._said_last.get(event, ()), tuple(whys)
        for why in whys:
            if why not in said:
                self._log.info(event, why=why)

    def _move(self, move: MovePages, outcome: Outcome, who: Mapping[str, Any], time_s: float) -> None:
        words: dict[str, Any] = {
            **who,
            "source": ",".join(map(str, move.sources)),
            "target": ",".join(map(str, move.targets)),
            "reason": str(move.reason),
        }
        came_to = _detail(outcome) | _failures(outcome)
        if outcome.ending is Ending.DRY_RUN:
            words["mb"] = _mb(move.limit_bytes)
            self.surprise("would move", time_s, level="info", figures=move.figures, **words)
        elif outcome.moved_bytes:
            told = {"mb": _mb(outcome.moved_bytes), "took_ms": _ms(outcome.took_s)}
            told["longest_call_ms"] = _ms(max(outcome.call_s, default=0.0))
            self._log.info("moved", **_with_figures(words | told | came_to, move.figures))
        elif outcome.ending is not Ending.DONE or outcome.failed:
            self.surprise("not moved", time_s, figures=move.figures, **words, **came_to)

    def _move_tasks(self, move: MoveTasks, outcome: Outcome, who: Mapping[str, Any], time_s: float) -> None:
        words = {**who, "target": ",".join(map(str, move.nodes)), "reason": str(move.reason)}
        came_to = _detail(outcome) | _failures(outcome)
        if outcome.ending is Ending.DRY_RUN:
            self.surprise("would move tasks", time_s, level="info", figures=move.figures, **words)
        elif outcome.moved_threads:
            words |= {"threads": outcome.moved_threads, "took_ms": _ms(outcome.took_s)}
            self._log.info("tasks moved", **_with_figures(words | came_to, move.figures))
        elif outcome.ending is not Ending.DONE:
            self.surprise("tasks not moved", time_s, figures=move.figures, **words, **came_to)

    def _judged(self, tick: Tick) -> None:
        jobs = {job.cgroup_id: job for job in tick.snapshot.jobs} if tick.plan.judged else {}
        for judged in tick.plan.judged:
            job = jobs[judged.cgroup_id]
            words = {"job": job.path, "policy": job.profile, "verdict": str(judged.verdict)}
            self.surprise("judged", tick.snapshot.time_s, level="info", figures=judged.figures, **words)

    def _forget_before(self, time_s: float) -> None:
        self._said_s = {what: when for what, when in self._said_s.items() if when > time_s}
        self._alike = Counter(event for event, *_ in self._said_s)


def _who(tick: Tick) -> dict[ProcessKey, dict[str, Any]]:
    """Give the words for every process, where any is to be told of."""
    plan, jobs = tick.plan, tick.snapshot.jobs
    if not (plan.moves or plan.task_moves or plan.held):
        return {}
    return {
        process.key: {
            "pid": process.key.pid,
            "comm": process.comm,
            "job": job.path,
            "policy": job.profile,
        }
        for job in jobs
        for process in job.processes
    }


def _mb(size_bytes: int) -> float:
    return round(size_bytes / 2**20, 1)


def _ms(time_s: float) -> float:
    return round(time_s * 1e3, 1)


def _with_figures(words: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, Any]:
    """Add figures behind the words, rounded for people; those that are named as anything else is are left out."""
    taken = _NO_FIGURES | words.keys()
    return {**words, **{name: rounded(value) for name, value in figures.items() if name not in taken}}


def rounded(figure: float) -> float:
    """Give three digits that matter, or all before the point."""
    told = float(f"{figure:.3g}") if abs(figure) < THREE_DIGITS else round(figure)
    return int(told) if float(told).is_integer() else told


def _detail(outcome: Outcome) -> dict[str, Any]:
    return {"ending": str(outcome.ending)} | ({"detail": outcome.detail} if outcome.detail else {})


def _failures(outcome: Outcome) -> dict[str, Any]:
    told = " ".join(f"{name}:{pages}" for name, pages in outcome.failed.items())
    return {"failed": told} if told else {}
