# SPDX-License-Identifier: Apache-2.0

"""``numad-py record``: write what the labelled jobs do to a trace, and touch nothing."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from numad_py import profiles, trace
from numad_py.daemon import log
from numad_py.daemon.config import Config
from numad_py.daemon.service import Service, stopped_by_signals
from numad_py.policies.hold import Hold


def record(
    output: Annotated[Path, typer.Argument(help="The trace to write: .jsonl, .jsonl.gz or .jsonl.zst.")],
    *,
    duration_s: Annotated[
        float, typer.Option("--duration", min=0, help="Seconds to record; 0: until Ctrl-C.")
    ] = 0.0,
    period_s: Annotated[float, typer.Option("--period", min=0.1, help="Seconds between looks.")] = 1.0,
    anonymise: Annotated[
        bool,
        typer.Option("--anonymise", help="Hash names and paths, renumber processes, and rebase addresses."),
    ] = False,
) -> None:
    """Write what the labelled jobs do to a trace, and touch nothing.

    The file has mode 0600, and one that is already there is never overwritten.
    """
    log.configure(foreground=True, verbose=False)
    service = Service(Config(period_s=period_s), policy=Hold())
    hidden = trace.Anonymiser(secrets.token_bytes(32), frozenset(profiles.names())) if anonymise else None
    header = service.header()
    count = 0
    with (
        trace.Writer(output, hidden.header(header) if hidden else header) as writer,
        stopped_by_signals(service.clock),
    ):
        for count, tick in enumerate(service.ticks(), 1):
            writer.write(hidden.tick(tick) if hidden else tick)
            if duration_s and count * period_s >= duration_s:
                break
    print(f"{count} ticks in {output}; replay them with: numad-py simulate {output}")
