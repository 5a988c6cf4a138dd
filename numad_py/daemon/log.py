# SPDX-License-Identifier: Apache-2.0

"""Say what happened: a line per move, in the words of the trace."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from numad_py.model import Ending, MovePages, Outcome, ProcessKey, Tick

REPEAT_S = 60.0
_FIGURES = {"mb", "failed"}  # which differ from look to look where nothing is new


def configure(stream: TextIO | None = None, *, foreground: bool, level: int = logging.INFO) -> None:
    """Send log lines to a stream, else to stderr: for a terminal, or as key=value for the journal."""
    stream = stream or sys.stderr
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if foreground
        else structlog.processors.LogfmtRenderer(key_order=["level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)] if foreground else []),
            _printable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _printable(_logger: object, _level: str, words: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters: a command or a cgroup may be called anything, a terminal's commands too."""
    for key, word in words.items():
        if isinstance(word, str) and not word.isprintable():
            words[key] = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in word)
    return words


class TickLog:
    """Tells of each tick what an operator wants to know, and no surprise twice within a minute."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._said_s: dict[tuple[object, ...], float] = {}

    def tick(self, tick: Tick, look_s: float = 0.0) -> None:
        """Tell of one turn of the loop, of which looking took ``look_s``."""
        snapshot = tick.snapshot
        self._forget_before(snapshot.time_s - REPEAT_S)
        who: dict[ProcessKey, dict[str, Any]] = {
            process.key: {"pid": process.key.pid, "comm": process.comm, "job": job.path}
            for job in snapshot.jobs
            for process in job.processes
        }
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            self._move(move, outcome, who[move.process], snapshot.time_s)
        for held in tick.plan.held:
            why, mb = str(held.why), _mb(held.bytes)
            self.surprise("held back", snapshot.time_s, **who[held.process], why=why, mb=mb)
        for skipped in snapshot.skipped:
            pid, comm, why = skipped.process.pid, skipped.comm, skipped.why
            self.surprise("skipped", snapshot.time_s, pid=pid, comm=comm, why=why)
        self._log.debug(
            "tick",
            jobs=len(snapshot.jobs),
            processes=len(who),
            moves=len(tick.plan.moves),
            look_ms=_ms(look_s),
            move_ms=_ms(sum(outcome.took_s for outcome in tick.outcomes)),
        )

    def surprise(self, event: str, time_s: float, *, level: str = "warning", **words: Any) -> None:
        """Say it, unless the same was said within the last minute; figures do not make it new."""
        what = (event, *(value for key, value in sorted(words.items()) if key not in _FIGURES))
        if what not in self._said_s:
            self._said_s[what] = time_s
            self._log.log(getattr(logging, level.upper()), event, **words)

    def _move(self, move: MovePages, outcome: Outcome, who: Mapping[str, Any], time_s: float) -> None:
        words: dict[str, Any] = {
            **who,
            "source": ",".join(map(str, move.sources)),
            "target": ",".join(map(str, move.targets)),
            "reason": str(move.reason),
        }
        came_to = _detail(outcome) | _failures(outcome)
        if outcome.ending is Ending.DRY_RUN:
            self.surprise("would move", time_s, level="info", **words, mb=_mb(move.limit_bytes))
        elif outcome.moved_bytes:
            told = {"mb": _mb(outcome.moved_bytes), "took_ms": _ms(outcome.took_s)}
            told["longest_call_ms"] = _ms(max(outcome.call_s, default=0.0))
            self._log.info("moved", **words, **told, **came_to)
        elif outcome.ending is not Ending.DONE or outcome.failed:
            self.surprise("not moved", time_s, **words, **came_to)

    def _forget_before(self, time_s: float) -> None:
        self._said_s = {what: when for what, when in self._said_s.items() if when > time_s}


def _mb(size_bytes: int) -> float:
    return round(size_bytes / 2**20, 1)


def _ms(time_s: float) -> float:
    return round(time_s * 1e3, 1)


def _detail(outcome: Outcome) -> dict[str, Any]:
    return {"ending": str(outcome.ending)} | ({"detail": outcome.detail} if outcome.detail else {})


def _failures(outcome: Outcome) -> dict[str, Any]:
    told = " ".join(f"{name}:{pages}" for name, pages in outcome.failed.items())
    return {"failed": told} if told else {}
