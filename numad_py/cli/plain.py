# SPDX-License-Identifier: Apache-2.0

"""Print tables and sentences as they are: ``[gpu]`` is no style, ``:100:`` no picture, and nothing is cut."""

from rich.console import Console, RenderableType


def show(each: RenderableType) -> None:
    """Print it; what can be no narrower than it is has longer lines than a terminal, or the 80 columns of a pipe."""
    Console(markup=False, emoji=False, highlight=False).print(each, crop=False)
