# SPDX-License-Identifier: Apache-2.0

"""``numad-py simulate``: tell what other policies would have made of a recorded day."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from numad_py import machines, profiles
from numad_py.cli import outsiders, plain, playing, replaying, sweeping
from numad_py.cli import simulate_options as options
from numad_py.cli.replaying import Conditions, Replayed
from numad_py.cli.writable import refuse_unwritable
from numad_py.profile import ProfileError
from numad_py.sim import grid as grids
from numad_py.sim import html_page, pool, replay, report, shipped
from numad_py.sim.sight import Acuity

Grid = list[dict[str, Any]]
_CTRL_C: Final = 130  # as shells count: 128 and SIGINT


@dataclass(frozen=True)
class _Wanted:
    """What is to be replayed, and how."""

    traces: list[Path]
    scenarios: list[Path]
    under: Conditions
    jobs: int
    as_json: bool


def simulate(  # noqa: PLR0913 - an argument for each option
    traces: options.Traces = None,
    *,
    scenario: options.Scenarios = None,
    policy: options.Policies = None,
    machine: options.Machine = None,
    kernel: options.Kernel = "",
    deadline_s: options.Deadline = None,
    seed: options.Seed = Acuity.seed,
    sets: options.Sets = None,
    into: options.Into = None,
    jobs: options.Jobs = None,
    lenient: options.Lenient = False,
    as_json: options.Json = False,
    html: options.Html = None,
) -> None:
    """Replay recorded traces, or scenarios, under other policies.

    They stand beside hold, the policy that does nothing. The guard and the loop are the daemon's own. Of a trace only the demand is replayed: where the
    recorded policy put the pages plays no part after a process's first look.
    """
    with _ctrl_c_in_a_sentence(into):
        if not traces and not scenario:
            raise typer.BadParameter(
                f"name one, or a --scenario: {', '.join(shipped.names('scenarios'))}", param_hint="TRACE"
            )
        if html is not None:
            _refuse_what_is_no_report(html, traces or [])
        grid = _grid(sets, into, html)
        wanted = _Wanted(
            list(map(_found, traces or [])),
            [shipped.find("scenarios", name) for name in scenario or []],
            Conditions(
                _policies(policy, grid),
                _machine(machine),
                kernel,
                deadline_s,
                lenient,
                history=html is not None,
                seed=seed,
            ),
            jobs or pool.usable_cpus(),
            as_json,
        )
        if into and any(map(outsiders.is_one, wanted.under.policies)):
            raise typer.BadParameter(
                "keeps nothing of policies of your own, whose code may change", param_hint="--into"
            )
        _sweep(wanted, grid, into) if grid else _replay(wanted, html)


@contextmanager
def _ctrl_c_in_a_sentence(into: Path | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        go_on = f"; what is done is in {into}, and the same command goes on from there" if into else ""
        print(f"numad-py: stopped by Ctrl-C{go_on}", file=sys.stderr)
        raise typer.Exit(_CTRL_C) from None


def _replay(wanted: _Wanted, html: Path | None) -> None:
    replayed = []
    if wanted.traces:
        replayed += replaying.traces(wanted.traces, wanted.under, jobs=wanted.jobs, shown=not wanted.as_json)
    for each in replayed:
        _tell(each)
    if wanted.scenarios:
        replayed += playing.played(wanted.scenarios, wanted.under, jobs=wanted.jobs, shown=not wanted.as_json)
    if html is not None:
        page = [html_page.Replay(each.title, each.scores, each.histories) for each in replayed]
        _write(html, html_page.page(page))
    _print(list(map(_values, replayed)), chain.from_iterable(map(_drawn, replayed)), as_json=wanted.as_json)


def _sweep(wanted: _Wanted, grid: Grid, into: Path | None) -> None:
    results = sweeping.swept(
        wanted.traces,
        wanted.scenarios,
        wanted.under,
        grid,
        into,
        jobs=wanted.jobs,
        shown=not wanted.as_json,
    )
    every = [result for of_source in results for result in of_source]
    _print(every, map(sweeping.table, results), as_json=wanted.as_json)


def _print(values: Sequence[Any], drawn: Iterable[RenderableType], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(values)).decode())
        return
    for each in drawn:
        plain.show(each)


def _policies(named: list[str] | None, grid: Grid) -> tuple[str, ...]:
    """Give the names of the policies, each once and the baseline first; a sweep's are those that it changes."""
    swept = (
        [name for name in profiles.names() if any(key.startswith(f"{name}.") for key in grid[0])]
        if grid
        else []
    )
    return tuple(dict.fromkeys((replay.BASELINE, *(named or swept or ("default", "interleave")))))


def _grid(sets: list[str] | None, into: Path | None, html: Path | None) -> Grid:
    if not sets:
        if into:
            raise typer.BadParameter("is for the results of --set", param_hint="--into")
        return []
    if html:
        raise typer.BadParameter("draws one replay: leave --set out", param_hint="--html")
    try:
        return grids.points(sets)
    except ProfileError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from None


def _found(path: Path) -> Path:
    try:
        replaying.size_bytes(path)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="TRACE") from None
    return path


def _machine(name: str | None) -> Path | None:
    """Find a machine file, and say where nobody knows its figures."""
    if name is None:
        return None
    path = shipped.find("machines", name)
    if ranges := machines.read(path).ranges:
        print(
            f"numad-py: {path}: nobody has published {', '.join(ranges)}: the middle of each range is used",
            file=sys.stderr,
        )
    return path


def _tell(replayed: Replayed) -> None:
    """Say what was not looked at, and refuse a trace of which nothing could be."""
    for sentence in replayed.passed.sentences:
        print(f"numad-py: {sentence}", file=sys.stderr)
    if ignored := replayed.header.ignored:
        names = ", ".join(ignored)
        print(
            f"numad-py: {replayed.path}: columns of a later version, not looked at: {names}", file=sys.stderr
        )
    replaying.refuse_empty(replayed.path, replayed.scores)


def _drawn(replayed: Replayed) -> Iterator[RenderableType]:
    yield report.table(replayed.title, replayed.scores, replayed.ranges)
    sentences = [f"{each.word}: {each.why}" for each in replayed.verdicts]
    yield from (Text(f"{sentence}.") for sentence in (*sentences, *replayed.notes))


def _values(replayed: Replayed) -> dict[str, Any]:
    values = {
        "trace": str(replayed.path),
        "kernel": replayed.header.kernel,
        "nodes": len(replayed.header.topology.nodes),
        "policies": report.values(replayed.scores),
        "passed_over": replayed.passed.values,
    }
    if replayed.ranges:
        values["modelled_time_to_hold_ranges"] = replayed.ranges
    return values | {"verdicts": replayed.verdicts, "notes": replayed.notes}


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
    with _unfinished(html) as unfinished:
        refuse_unwritable(unfinished)


def _write(path: Path, document: str) -> None:
    """Put the whole file in its place at once, or leave what was there."""
    with _unfinished(path) as unfinished:
        _put(unfinished, path, document)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Give the name that a file has until it is whole; what goes wrong with that is told of the file."""
    try:
        yield path.with_name(f".{path.name}.{os.getpid()}")
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
