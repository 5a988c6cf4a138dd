# SPDX-License-Identifier: Apache-2.0

"""The verbs of ``numad-py``, and how any of them ends."""

import sys
from typing import Annotated

import typer

from numad_py import __version__
from numad_py.calibrate import CannotCalibrate
from numad_py.cli.calibrate import calibrate
from numad_py.cli.daemon import daemon
from numad_py.cli.demo import demo
from numad_py.cli.doctor import doctor
from numad_py.cli.look import look
from numad_py.cli.record import record
from numad_py.cli.simulate import simulate
from numad_py.daemon.service import NoCgroupError
from numad_py.profile import ProfileError
from numad_py.trace import AnotherTopology, TraceError

app = typer.Typer(
    help="Keep memory near the threads that use it, on Linux machines with more than one NUMA node.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes break sentences, and sentences are what mistakes are told in
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (look, doctor, daemon, record, simulate, calibrate, demo):
    app.command()(verb)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        print(f"numad-py {__version__}")
        raise typer.Exit


@app.callback()
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
    try:
        app(prog_name="numad-py")
    except (ProfileError, TraceError, NoCgroupError, AnotherTopology, CannotCalibrate, OSError) as error:
        print(f"numad-py: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # else it speaks for itself
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
