# SPDX-License-Identifier: Apache-2.0

"""The arguments and options of ``numad-py simulate``."""

from pathlib import Path
from typing import Annotated

import typer

from numad_py.cli.seconds import finite
from numad_py.sim import cost
from numad_py.sim.baselines import BASELINES


def _version(kernel: str) -> str:
    if kernel and not cost.version_of(kernel):
        raise typer.BadParameter(f"found {kernel!r}, a version as in 6.1 is needed")
    return kernel


Traces = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="TRACE", help="What was recorded: .jsonl, .jsonl.gz, .jsonl.zst.", show_default=False
    ),
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A pathology written down, as in sim/scenarios/, instead of a trace; may be given again.",
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|PROFILE|MODULE:CLASS|stdio:COMMAND",
        help=f"A profile's name or file, {', '.join(BASELINES)}, a class of yours or an entry point's name, or a program "
        "that answers on stdio; may be given again. "
        "Default: default, interleave; with --set, those it names.",
    ),
]
Machine = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Latencies and prices of a machine, as in sim/machines/. Default: published figures.",
    ),
]
Kernel = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        callback=_version,
        help="Moving costs what it does under this kernel, as in 6.1. Default: the trace's own.",
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="SECONDS",
        min=0,
        callback=finite,
        help="How long moves of one turn may take. Default: as the daemon's, four fifths of the time between looks.",
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, help="Draws how late and how roughly policies see the machine.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUES",
        help="Try values of a parameter, as default.patience=1..4; given again, every combination.",
    ),
]
Into = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Add the results of --set to a file, and replay none that it has."),
]
Jobs = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Processes at once. Default: one for each usable CPU.")
]
Lenient = Annotated[
    bool, typer.Option("--lenient", help="Go on behind damage, and count what was passed over.")
]
Json = Annotated[bool, typer.Option("--json", help="Every figure, for machines.")]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Pictures, too: one page that needs no network. Replaces an older file."
    ),
]
