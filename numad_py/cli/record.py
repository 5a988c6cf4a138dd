# SPDX-License-Identifier: Apache-2.0

"""``numad-py record``: write what the labelled jobs do to a trace, and touch nothing."""

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from numad_py import profiles, trace
from numad_py.cli.seconds import finite
from numad_py.daemon import config, log
from numad_py.daemon.config import LONGEST_PERIOD_S, SHORTEST_PERIOD_S, Mode
from numad_py.daemon.running import heard_signals
from numad_py.daemon.service import Service
from numad_py.policies.hold import Hold

_NOBODY = "No job was labelled: label its cgroup, or any process in it: numad-py label PID default"


def record(
    output: Annotated[
        Path, typer.Argument(metavar="TRACE", help="The file to write: .jsonl, .jsonl.gz or .jsonl.zst.")
    ],
    *,
    duration_s: Annotated[
        float,
        typer.Option(
            "--duration",
            metavar="SECONDS",
            min=0,
            callback=finite,
            help="How long to record; 0: until Ctrl-C.",
        ),
    ] = 0.0,
    period_s: Annotated[
        float,
        typer.Option(
            "--period",
            metavar="SECONDS",
            min=SHORTEST_PERIOD_S,
            max=LONGEST_PERIOD_S,
            callback=finite,
            help="Time between looks.",
        ),
    ] = 1.0,
    anonymise: Annotated[
        bool,
        typer.Option("--anonymise", help="Hash names and paths, renumber processes, and rebase addresses."),
    ] = False,
) -> None:
    """Write what the labelled jobs do to a trace, and touch nothing.

    The file has mode 0600, and one that is already there is never overwritten.
    """
    log.configure(foreground=True)
    said = replace(config.read(None, {}).config, mode=Mode.OBSERVE, period_s=period_s)
    service = Service(said, policy=Hold())
    hidden = trace.Anonymiser(secrets.token_bytes(32), frozenset(profiles.names())) if anonymise else None
    header = service.header()
    began_s = time.monotonic()
    count, jobs = 0, set[int]()
    with (
        heard_signals(service.clock),
        trace.Writer(output, hidden.header(header) if hidden else header) as writer,
    ):
        for tick in service.ticks():
            try:
                writer.write(hidden.tick(tick) if hidden else tick)
            except trace.AnotherTopology:
                print("nodes or CPUs came or went, and a trace holds one topology: it ends here")
                break
            count += 1
            jobs |= {job.cgroup_id for job in tick.snapshot.jobs}
            if duration_s and tick.snapshot.time_s >= began_s + duration_s:
                break
    print(f"{count} ticks of {len(jobs)} jobs in {output}; replay them with: numad-py simulate {output}")
    if not jobs:
        print(_NOBODY)
