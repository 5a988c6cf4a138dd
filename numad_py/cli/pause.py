# SPDX-License-Identifier: Apache-2.0

"""``numad-py pause`` and ``numad-py resume``: have the daemon stop acting, and act again."""

from typing import Annotated

import typer

from numad_py.cli.asking import ask


def pause(
    *,
    restore: Annotated[
        bool, typer.Option("--restore", help="Give threads back the CPUs that they had, too.")
    ] = False,
) -> None:
    """Have the daemon stop all acting, until `numad-py resume`.

    It stops at once, whatever restarts in between, and goes on looking. For root alone.
    """
    ask("Pause", restore=restore)
    print("paused; the daemon looks on, and moves nothing until numad-py resume")


def resume() -> None:
    """Let the daemon act again, as its configuration says.

    Also where crashes or the kernel's alarms had stopped it. For root alone.
    """
    ask("Resume")
    print("resumed; numad-py status says whether anything else keeps the daemon from acting")
