# SPDX-License-Identifier: Apache-2.0

"""Print tables and sentences as they are: ``[gpu]`` is no style, ``:100:`` no picture, and nothing is cut."""

from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table

_ENOUGH: Final = 10_000  # columns, for any table


def whole(table: Table) -> Table:
    """Keep a table as wide as it is, also where a terminal, or the 80 columns of a pipe, are narrower."""
    table.width = Console(width=_ENOUGH).measure(table).maximum
    return table


def show(each: RenderableType) -> None:
    """Print it."""
    Console(markup=False, emoji=False, highlight=False).print(each, crop=False)
