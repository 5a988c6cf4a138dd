# SPDX-License-Identifier: Apache-2.0

"""Say what happened: a line per move, in the words of the trace."""

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog

from numad_py.model import Ending, Job, MovePages, Outcome, ProcessKey, Tick

REPEAT_S = 60.0


def configure(stream: TextIO = sys.stderr, *, foreground: bool, verbose: bool) -> None:
    """Send log lines to a stream: for a terminal, or as key=value for the journal."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if foreground
        else structlog.processors.LogfmtRenderer(key_order=["level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)] if foreground else []),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


class TickLog:
    """Tells of each tick what an operator wants to know, and nothing twice within a minute."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._said_s: dict[tuple[object, ...], float] = {}

    def tick(self, tick: Tick) -> None:
        """Tell of one turn of the loop."""
        snapshot = tick.snapshot
        jobs = {process.key: job for job in snapshot.jobs for process in job.processes}
        comms = {process.key: process.comm for job in snapshot.jobs for process in job.processes}
        for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True):
            self._move(move, outcome, jobs[move.process], comms[move.process], snapshot.time_s)
        for held in tick.plan.held:
            who = _who(held.process, jobs, comms)
            self._once("held back", snapshot.time_s, **who, why=str(held.why), mb=_mb(held.bytes))
        for skipped in snapshot.skipped:
            self._once(
                "skipped", snapshot.time_s, pid=skipped.process.pid, comm=skipped.comm, why=skipped.why
            )
        self._log.debug("tick", jobs=len(snapshot.jobs), moves=len(tick.plan.moves))

    def surprise(self, event: str, time_s: float, **words: Any) -> None:
        """Tell of something that an operator should look at."""
        self._once(event, time_s, **words)

    def _move(self, move: MovePages, outcome: Outcome, job: Job, comm: str, time_s: float) -> None:
        words: dict[str, Any] = {
            "pid": move.process.pid,
            "comm": comm,
            "job": job.path,
            "source": ",".join(map(str, move.sources)),
            "target": ",".join(map(str, move.targets)),
            "reason": str(move.reason),
        }
        if outcome.ending is Ending.DRY_RUN:
            self._once("would move", time_s, level="info", **words, mb=_mb(move.limit_bytes))
            return
        if not outcome.moved_bytes and outcome.ending is Ending.DONE and not outcome.failed:
            return
        told: dict[str, Any] = {"mb": _mb(outcome.moved_bytes), "took_ms": round(outcome.took_s * 1e3, 1)}
        told |= {"ending": str(outcome.ending), "longest_call_ms": _longest_ms(outcome)}
        told |= {"detail": outcome.detail} if outcome.detail else {}
        self._log.info("moved", **words, **told, **_failures(outcome.failed))

    def _once(self, event: str, time_s: float, *, level: str = "warning", **words: object) -> None:
        """Say it, unless the same was said within the last minute; figures do not make it new."""
        self._said_s = {what: when for what, when in self._said_s.items() if time_s - when < REPEAT_S}
        what = (event, *(value for key, value in sorted(words.items()) if key != "mb"))
        if what not in self._said_s:
            self._said_s[what] = time_s
            self._log.log(getattr(logging, level.upper()), event, **words)


def _who(key: ProcessKey, jobs: Mapping[ProcessKey, Job], comms: Mapping[ProcessKey, str]) -> dict[str, Any]:
    return {"pid": key.pid, "comm": comms[key], "job": jobs[key].path}


def _mb(size_bytes: int) -> float:
    return round(size_bytes / 2**20, 1)


def _longest_ms(outcome: Outcome) -> float:
    return round(max(outcome.call_s, default=0.0) * 1e3, 1)


def _failures(failed: Mapping[str, int]) -> dict[str, Any]:
    return {"failed": " ".join(f"{name}:{pages}" for name, pages in failed.items())} if failed else {}
