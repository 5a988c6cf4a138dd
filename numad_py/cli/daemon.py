# SPDX-License-Identifier: Apache-2.0

"""``numad-py daemon``: watch the labelled jobs, and repair their placement."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from numad_py.cli.size import mebibytes
from numad_py.daemon import config, log, running


def daemon(  # noqa: PLR0913 - one argument an option
    *,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help=f"Stop after the first turn with something to do, or after {running.ONCE_TURNS}."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be moved; move nothing.")
    ] = False,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Log for a terminal, with clock and colours, instead of for the journal."
        ),
    ] = False,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help=f"Configuration file; conf.d/*.yaml beside it counts too. Default: {config.DEFAULT_PATH}, if it is there.",
        ),
    ] = None,
    check_config: Annotated[
        bool,
        typer.Option(
            "--check-config", help="Print the effective configuration with each key's origin, and stop."
        ),
    ] = False,
    trace: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Record every turn to this file (.jsonl, .jsonl.gz, .jsonl.zst), mode 0600."
        ),
    ] = None,
    trace_ring: Annotated[
        int | None,
        typer.Option(
            parser=mebibytes,
            metavar="SIZE",
            help="Keep only the last SIZE (as 64M or 1G) of the trace: a flight recorder.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="A line for every turn.")] = False,
) -> None:
    """Watch the labelled jobs, and repair their placement.

    Nothing is moved unless the configuration says `mode: act`, and only pages of processes in
    cgroups that are labelled: `numad-py label PID default`.
    SIGTERM and SIGINT end it; affinities are restored, and pages stay where they are. SIGHUP reads the configuration anew.
    """
    said = {"trace": trace, "trace_ring_mb": trace_ring}
    told = {key: value for key, value in said.items() if value is not None}
    if check_config:
        print("\n".join(config.read(config_file, told).lines()))
        return
    log.configure(foreground=foreground, level=logging.DEBUG if verbose else logging.INFO)
    running.run(lambda: config.read(config_file, told).config, dry_run=dry_run, once=once)
