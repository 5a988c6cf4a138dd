# SPDX-License-Identifier: Apache-2.0

"""``numad-py simulate``: tell what other policies would have made of a recorded day."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from numad_py import machines, profiles, trace
from numad_py.model import Tick
from numad_py.policies.hold import Hold
from numad_py.roles import Policy
from numad_py.sim import cost, replay, report
from numad_py.sim.score import Score

_QUIET_S = 2.0  # before a progress bar is worth its lines


@dataclass(frozen=True)
class Replayed:
    """One trace's header and its scores by policy."""

    path: Path
    header: trace.Header
    scores: dict[str, Score]
    passed: trace.Passed


def _version(kernel: str) -> str:
    if kernel and not cost.version_of(kernel):
        raise typer.BadParameter(f"found {kernel!r}, a version as in 6.1 is needed")
    return kernel


def simulate(
    traces: Annotated[
        list[Path],
        typer.Argument(metavar="TRACE", help="What was recorded: .jsonl, .jsonl.gz, .jsonl.zst."),
    ],
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PROFILE",
            help="A profile's name or file; may be given again. Default: default, interleave.",
        ),
    ] = None,
    machine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Latencies and prices of a machine, as in sim/machines/. Default: published figures.",
        ),
    ] = None,
    kernel: Annotated[
        str,
        typer.Option(
            metavar="VERSION",
            callback=_version,
            help="Moving costs what it does under this kernel, as in 6.1. Default: the trace's own.",
        ),
    ] = "",
    deadline_s: Annotated[
        float,
        typer.Option("--deadline", metavar="SECONDS", min=0, help="How long moves of one turn may take."),
    ] = replay.DEADLINE_S,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Go on behind damage, and count what was passed over.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, for machines.")] = False,
) -> None:
    """Replay recorded traces under other policies.

    They stand beside hold, the policy that does nothing. The guard and the loop are the daemon's own. Of a trace only the demand is replayed: where the
    recorded policy put the pages plays no part after a process's first look.
    """
    names = policy or ["default", "interleave"]
    if machine and (ranges := machines.read(machine).ranges):
        print(
            f"numad-py: {machine}: nobody has published {', '.join(ranges)}: the middle of each range is used",
            file=sys.stderr,
        )
    replayed = [
        _replayed(
            path,
            names,
            partial(cost.prices_for, machine=machine, kernel=kernel),
            deadline_s=deadline_s,
            lenient=lenient,
        )
        for path in traces
    ]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(list(map(_values, replayed)))).decode())
        return
    for each in replayed:
        Console().print(report.table(_title(each), each.scores))


def _replayed(
    path: Path,
    names: list[str],
    prices_for: Callable[[trace.Header], cost.Prices],
    *,
    deadline_s: float,
    lenient: bool,
) -> Replayed:
    policies, passed = _policies(names), trace.Passed()
    try:
        header, ticks = trace.read(path, lenient=lenient, on_damage=passed)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="TRACE") from None
    scores = replay.scores(_with_progress(ticks, path), policies, prices_for(header), deadline_s=deadline_s)
    _tell(path, header, passed)
    if not scores[report.BASELINE].ticks:
        raise trace.TraceError(path, 1, "there is no tick that can be read behind the header", "record again")
    return Replayed(path, header, scores, passed)


def _policies(names: list[str]) -> dict[str, Policy]:
    """Make the policies anew, for each trace has a memory of its own; the baseline is always the first."""
    chosen: dict[str, Policy] = {report.BASELINE: Hold()}
    return chosen | {name: profiles.build(profiles.load(name)) for name in names if name != report.BASELINE}


def _tell(path: Path, header: trace.Header, passed: trace.Passed) -> None:
    for sentence in passed.sentences:
        print(f"numad-py: {sentence}", file=sys.stderr)
    if header.ignored:
        names = ", ".join(header.ignored)
        print(f"numad-py: {path}: columns of a later version, not looked at: {names}", file=sys.stderr)


def _with_progress(ticks: Iterator[Tick], path: Path) -> Iterator[Tick]:
    """Show on a terminal how many ticks are done, once that takes longer than people wait."""
    console, begun_s = Console(stderr=True), time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} ticks"),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(f"replaying {path.name}", total=None)
    try:
        for tick in ticks:
            if console.is_terminal and not progress.live.is_started and time.monotonic() > begun_s + _QUIET_S:
                progress.start()
            yield tick
            progress.advance(task)
    finally:
        if progress.live.is_started:
            progress.stop()


def _title(replayed: Replayed) -> str:
    score, nodes = replayed.scores[report.BASELINE], len(replayed.header.topology.nodes)
    return f"{replayed.path.name}: {nodes} nodes, {score.ticks:,} ticks, {score.elapsed_s:,.0f} s"


def _values(replayed: Replayed) -> dict[str, Any]:
    return {
        "trace": str(replayed.path),
        "kernel": replayed.header.kernel,
        "nodes": len(replayed.header.topology.nodes),
        "policies": report.values(replayed.scores),
        "passed_over": replayed.passed.values,
    }
