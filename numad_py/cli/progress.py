# SPDX-License-Identifier: Apache-2.0

"""A bar that shows how far something is, once it takes longer than people wait."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_QUIET_S = 2.0  # before a progress bar is worth its lines


@contextmanager
def bar(what: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Give whom to tell how much more is done; only a terminal shows it."""
    console, begun_s = Console(stderr=True), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(escape(what), total=total)
    shown = shown and console.is_terminal

    def tell(count: int) -> None:
        progress.advance(task, count)
        if shown and not progress.live.is_started and time.monotonic() > begun_s + _QUIET_S:
            progress.start()

    try:
        yield tell
    finally:
        if progress.live.is_started:
            progress.stop()
