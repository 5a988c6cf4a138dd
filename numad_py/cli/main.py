# SPDX-License-Identifier: Apache-2.0

"""The verbs of ``numad-py``, and how any of them ends."""

import importlib
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Final

import typer

from numad_py import __version__
from numad_py.mendable import Mendable

VERBS: Final = {
    "look": "look",
    "doctor": "doctor",
    "label": "label",
    "daemon": "daemon",
    "status": "status",
    "explain": "explain",
    "pause": "pause",
    "resume": "pause",
    "record": "record",
    "simulate": "simulate",
    "train": "train",
    "calibrate": "calibrate",
    "demo": "demo",
}
"""Every verb, and the module of this package that it is in."""


def application(words: Sequence[str] = ()) -> typer.Typer:
    """Give the command line with the verb that the words begin with, else with all of them.

    So the daemon does not carry the laboratory about: 3 MB, and half of the time that a verb takes to start.
    """
    app = typer.Typer(
        help="Keep memory near the threads that use it, on Linux machines with more than one NUMA node.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # boxes break sentences, and sentences are what mistakes are told in
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    for verb in words[:1] if words and words[0] in VERBS else VERBS:
        app.command()(getattr(importlib.import_module(f"numad_py.cli.{VERBS[verb]}"), verb))
    return app


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        print(f"numad-py {__version__}")
        raise typer.Exit


def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Keep memory near the threads that use it, on Linux machines with more than one NUMA node."""


def main() -> None:
    """Run one verb; what the user can mend ends in one sentence and exit 1."""
    if isinstance(sys.stdout, TextIOWrapper):  # a locale without all our signs is no reason to end
        sys.stdout.reconfigure(errors="replace")
    try:
        application(sys.argv[1:])(prog_name="numad-py")
    except (Mendable, OSError) as error:
        print(f"numad-py: {_printable(_sentence(error))}", file=sys.stderr)
        sys.exit(1)


def _printable(sentence: str) -> str:
    """Escape what a file or a cgroup may be called to command a terminal."""
    from numad_py.daemon.log import printable  # noqa: PLC0415 - not all verbs that end well need a logger

    return "\n".join(map(printable, sentence.split("\n")))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # else it speaks for itself
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
