# SPDX-License-Identifier: Apache-2.0

"""``numad-py status``: what the daemon does, and did for which job."""

import time
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from numad_py import __version__
from numad_py.cli.asking import NoAnswer, ask
from numad_py.cli.hardware import MB
from numad_py.daemon.log import printable
from numad_py.daemon.status import JobStatus, Status


def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False
) -> None:
    """Tell whether the daemon acts, and what it did for which job.

    Users see their own jobs, root all.
    """
    answer = ask("Status")["status"]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    try:
        show(msgspec.convert(answer, Status), Console())
    except msgspec.ValidationError as error:
        raise NoAnswer(
            f"the daemon is numad-py {answer.get('version')}, and this is {__version__}: {error}; restart it, or ask with --json"
        ) from None


def show(status: Status, console: Console) -> None:
    """Print it for people."""
    for line in _lines(status):
        console.print(Text(printable(line)), soft_wrap=True)
    if status.jobs:
        console.print(_table(status))
    for job in status.jobs:
        if details := list(_details(job)):
            for line in (job.cgroup, *(f"  {detail}" for detail in details)):
                console.print(Text(printable(line)), soft_wrap=True)


def _lines(status: Status) -> Iterator[str]:
    if status.acting:
        yield "acting"
    for who, why in status.closed_by.items():
        yield f"not acting: {who}: {why}"
    up_s = time.time() - status.started_unix_s
    yield (
        f"numad-py {status.version} on {status.kernel}, mode {status.mode}, up {_span(up_s)}, {status.turns} turns,"
        f" nodes {' '.join(map(str, status.nodes))}"
    )
    if status.last_turn_age_s is None:
        yield "it has not looked yet"
    else:
        cost = status.cost
        yield (
            f"last look {status.last_turn_age_s:.1f} s ago; looking takes {cost.core_share:.2%} of a core;"
            f" {cost.postponed} processes were put off"
        )
    for profile, why in status.replaced.items():
        yield f"profile {profile}: another policy stands in for its own: {why}"
    if not status.jobs:
        yield "no job is labelled, or none that you may see"
    for job in status.jobs:
        for each in job.skipped:
            yield f"skipped in {job.cgroup}: {each.comm}, PID {each.pid}: {each.why}"


def _table(status: Status) -> Table:
    """Lay out a row for each job; its words fold where a terminal, or the 80 columns of a pipe, are too narrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("job", "profile"):
        table.add_column(name, overflow="fold")
    for name in ("processes", "MB by node", "remote", "moved MB"):
        table.add_column(name, justify="right", overflow="fold", no_wrap=name != "MB by node")
    for job in status.jobs:
        table.add_row(*(Text(printable(cell)) for cell in _row(job, status.nodes)))
    return table


def _row(job: JobStatus, nodes: list[int]) -> Iterator[str]:
    yield job.cgroup
    yield job.profile
    yield str(job.processes)
    placed = zip(nodes, job.resident_bytes, strict=True)
    yield " ".join(f"{node}:{bytes_ / MB:.1f}" for node, bytes_ in placed if bytes_)
    yield "" if job.remote_share is None else f"{job.remote_share:.0%}"
    yield f"{job.moved_bytes / MB:.1f}"


def _details(job: JobStatus) -> Iterator[str]:
    if job.labelled_by:
        yield f"labelled by {job.labelled_by}"
    if job.moved_lately_bytes:
        yield f"{job.moved_lately_bytes / MB:.1f} MB moved within the last minute"
    if job.last_outcome:
        yield f"last move: {job.last_outcome}"
    if job.judged:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(job.judged.items()))
        yield f"moves judged: {verdicts}"
    if job.progress is not None:
        yield f"progress reported: {job.progress:g}"
    yield from (f"held back: {why}" for why in job.held_back_lately)


def _span(time_s: float) -> str:
    """Give a span of time in its two largest units."""
    minutes, hours, days = int(time_s / 60), int(time_s / 3600), int(time_s / 86400)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(time_s) % 60} s"
