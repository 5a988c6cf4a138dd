# SPDX-License-Identifier: Apache-2.0

"""Times as people write them on a command line."""

import math

import typer


def finite(seconds: float | None) -> float | None:
    """Refuse what cannot be counted in nanoseconds: inf, and nan, which is within all bounds of an option."""
    if seconds is not None and not math.isfinite(seconds * 1e9):
        raise typer.BadParameter(f"found {seconds}, a finite number of seconds is needed")
    return seconds
