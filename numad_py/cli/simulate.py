# SPDX-License-Identifier: Apache-2.0

"""``numad-py simulate``: tell what other policies would have made of a recorded day."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from numad_py import machines, profiles, trace
from numad_py.model import Tick
from numad_py.policies.hold import Hold
from numad_py.roles import Policy
from numad_py.sim import cost, html_page, replay, report, shipped
from numad_py.sim import scenario as scenarios
from numad_py.sim.baselines import BASELINES, Again
from numad_py.sim.history import Historian
from numad_py.sim.score import Score

_QUIET_S = 2.0  # before a progress bar is worth its lines


@dataclass(frozen=True)
class Replayed:
    """One trace's or scenario's header, its scores by policy, and where a report is wanted its histories."""

    path: Path
    header: trace.Header
    scores: dict[str, Score]
    passed: trace.Passed
    historians: dict[str, Historian]


@dataclass(frozen=True)
class _Source:
    """What is replayed, and what reads it once more from its begin."""

    header: trace.Header
    ticks: Iterator[Tick]
    again: Again


@dataclass(frozen=True)
class _Wanted:
    """What everything is replayed with."""

    policies: list[str]
    machine: Path | None
    kernel: str
    deadline_s: float
    lenient: bool
    history: bool
    progress: bool


def _version(kernel: str) -> str:
    if kernel and not cost.version_of(kernel):
        raise typer.BadParameter(f"found {kernel!r}, a version as in 6.1 is needed")
    return kernel


def simulate(  # noqa: PLR0913 - an argument for each option
    traces: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TRACE", help="What was recorded: .jsonl, .jsonl.gz, .jsonl.zst.", show_default=False
        ),
    ] = None,
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A pathology written down, as in sim/scenarios/, instead of a trace; may be given again.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PROFILE",
            help=f"A profile's name or file, or {', '.join(BASELINES)}; may be given again. "
            "Default: default, interleave.",
        ),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
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
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Pictures, too: one page that needs no network. Replaces an older file."
        ),
    ] = None,
) -> None:
    """Replay recorded traces, or scenarios, under other policies.

    They stand beside hold, the policy that does nothing. The guard and the loop are the daemon's own. Of a trace only the demand is replayed: where the
    recorded policy put the pages plays no part after a process's first look.
    """
    if not traces and not scenario:
        raise typer.BadParameter(
            f"name one, or a --scenario: {', '.join(shipped.names('scenarios'))}", param_hint="TRACE"
        )
    if html is not None:
        _refuse_what_is_no_report(html, traces or [])
    wanted = _Wanted(
        policy or ["default", "interleave"],
        shipped.find("machines", machine) if machine else None,
        kernel,
        deadline_s,
        lenient,
        html is not None,
        not as_json,
    )
    _tell_of_ranges(wanted.machine)
    replayed = [_recorded(path, wanted) for path in traces or []]
    replayed += [_scripted(name, wanted) for name in scenario or []]
    if html is not None:
        _write(html, html_page.page(list(map(_drawn, replayed))))
    _print(replayed, as_json=as_json)


def _tell_of_ranges(machine: Path | None) -> None:
    if machine and (ranges := machines.read(machine).ranges):
        print(
            f"numad-py: {machine}: nobody has published {', '.join(ranges)}: the middle of each range is used",
            file=sys.stderr,
        )


def _print(replayed: list[Replayed], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(list(map(_values, replayed)))).decode())
        return
    for each in replayed:
        Console().print(report.table(_title(each), each.scores))


def _recorded(path: Path, wanted: _Wanted) -> Replayed:
    passed = trace.Passed()
    with _progress(path, shown=wanted.progress) as on_bytes:
        try:
            header, ticks = trace.read(path, lenient=wanted.lenient, on_damage=passed, on_bytes=on_bytes)
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="TRACE") from None
        again = partial(_again, path, lenient=wanted.lenient)
        replayed = _replayed(path, _Source(header, ticks, again), wanted, passed)
    _tell(path, header, passed)
    if not replayed.scores[replay.BASELINE].ticks:
        raise trace.TraceError(path, 1, "there is no tick that can be read behind the header", "record again")
    return replayed


def _scripted(name: str, wanted: _Wanted) -> Replayed:
    path = shipped.find("scenarios", name)
    script = scenarios.read(path)
    again = partial(scenarios.ticks, script)
    return _replayed(path, _Source(script.header(path.stem), again(), again), wanted, trace.Passed())


def _again(path: Path, *, lenient: bool) -> Iterator[Tick]:
    return trace.read(path, lenient=lenient)[1]


def _replayed(path: Path, source: _Source, wanted: _Wanted, passed: trace.Passed) -> Replayed:
    prices = cost.prices_for(source.header, wanted.machine, wanted.kernel)
    policies = _policies(wanted.policies, prices, source.again)
    historians = {name: Historian(prices) for name in policies if wanted.history}

    def watch(turn: Mapping[str, Tick]) -> None:
        for name, historian in historians.items():
            historian.add(turn[name])

    scores = replay.scores(source.ticks, policies, prices, deadline_s=wanted.deadline_s, watch=watch)
    return Replayed(path, source.header, scores, passed, historians)


def _policies(names: list[str], prices: cost.Prices, again: Again) -> dict[str, Policy]:
    """Make the policies anew, for each trace has a memory of its own; the one that does nothing is always the first."""
    chosen: dict[str, Policy] = {replay.BASELINE: Hold()}
    return chosen | {name: _policy(name, prices, again) for name in names if name != replay.BASELINE}


def _policy(name: str, prices: cost.Prices, again: Again) -> Policy:
    if name in BASELINES:
        return BASELINES[name](prices, again)
    return profiles.build(profiles.load(name))


def _tell(path: Path, header: trace.Header, passed: trace.Passed) -> None:
    for sentence in passed.sentences:
        print(f"numad-py: {sentence}", file=sys.stderr)
    if header.ignored:
        names = ", ".join(header.ignored)
        print(f"numad-py: {path}: columns of a later version, not looked at: {names}", file=sys.stderr)


@contextmanager
def _progress(path: Path, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much of a trace is read, once that takes longer than people wait."""
    console, begun_s = Console(stderr=True), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(f"replaying {escape(path.name)}", total=None)
    shown = shown and console.is_terminal

    def on_bytes(count: int) -> None:
        progress.advance(task, count)
        if shown and not progress.live.is_started and time.monotonic() > begun_s + _QUIET_S:
            parts = [path] if path.exists() else trace.ring_segments(path)
            progress.update(task, total=sum(part.stat().st_size for part in parts))
            progress.start()

    try:
        yield on_bytes
    finally:
        if progress.live.is_started:
            progress.stop()


def _refuse_what_is_no_report(html: Path, traces: list[Path]) -> None:
    """Say before anything is replayed what would go wrong after it."""
    why = None
    if html.is_dir():
        why = "is a directory: name a file"
    elif not html.parent.is_dir():
        why = f"there is no directory {html.parent}"
    elif html.exists() and any(path.exists() and html.samefile(path) for path in traces):
        why = "is a trace to be replayed: name another file"
    if why:
        raise typer.BadParameter(f"{html}: {why}", param_hint="--html")


def _write(path: Path, document: str) -> None:
    """Put the whole file in its place at once, or leave what was there."""
    try:
        _put(path.with_name(f".{path.name}.{os.getpid()}"), path, document)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _put(unfinished: Path, path: Path, document: str) -> None:
    with unfinished.open("x", encoding="utf-8") as file:
        try:
            file.write(document)
            file.flush()
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _drawn(replayed: Replayed) -> html_page.Replay:
    histories = {name: historian.history for name, historian in replayed.historians.items()}
    return html_page.Replay(_title(replayed), replayed.scores, histories)


def _title(replayed: Replayed) -> str:
    score, nodes = replayed.scores[replay.BASELINE], len(replayed.header.topology.nodes)
    return f"{replayed.path.name}: {nodes} nodes, {score.ticks:,} ticks, {score.elapsed_s:,.0f} s"


def _values(replayed: Replayed) -> dict[str, Any]:
    return {
        "trace": str(replayed.path),
        "kernel": replayed.header.kernel,
        "nodes": len(replayed.header.topology.nodes),
        "policies": report.values(replayed.scores),
        "passed_over": replayed.passed.values,
    }
