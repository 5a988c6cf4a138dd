# SPDX-License-Identifier: Apache-2.0

"""Send log lines to journald, with a field of each word to filter by: JOB=, PID=, POLICY=, REASON= ..."""

import os
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

try:
    from systemd import journal
except ImportError:  # the extra `systemd` is not installed
    journal = None

_PRIORITY: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # of syslog(3)
_words_of: Final = structlog.processors.LogfmtRenderer()


def is_behind(stream: TextIO) -> bool:
    """Say whether the stream is the one that systemd connected; see systemd.exec(5), $JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream of no file
        return False
    return journal is not None and os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def fields(
    _logger: object, level: str, words: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, str | int]]:
    """Make of an event the line that people read, and a field of each of its words."""
    event = words.pop("event")
    del words["level"]
    line = f"{event} {_words_of(None, level, dict(words))}".rstrip()
    named = {key.upper(): str(word) for key, word in words.items()}
    return (line,), {**named, "EVENT": str(event), "PRIORITY": _PRIORITY[level]}


class Logger:
    """Sends each line to journald; to the stream where nobody takes it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str, **named: str | int) -> None:
        """Send one line."""
        try:
            journal.send(line, SYSLOG_IDENTIFIER="numad-py", **named)
        except OSError:  # journald is gone, or its socket full
            print(line, file=self._stream, flush=True)

    debug = info = warning = error = critical = msg
