# SPDX-License-Identifier: Apache-2.0

"""``numad-py doctor``: what can be seen on this machine, what cannot, and who else moves pages."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from numad_py.cli import plain
from numad_py.sense import movers, visible


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Tell what can be seen on this machine, and what is lacking.

    Needs no root, changes nothing, and tells what the user who runs it could see.
    """
    seen, others = visible.findings(visible.host()), movers.movers()
    if as_json:
        print(
            json.dumps(
                {"senses": [asdict(each) for each in seen], "movers": [asdict(each) for each in others]}
            )
        )
        return
    plain.show(_senses(seen))
    plain.show(_movers(others))


def _senses(findings: tuple[visible.Finding, ...]) -> Table:
    table = _table("What can be seen", "sense", "seen", "source", "lacking")
    for finding in findings:
        table.add_row(finding.sense, finding.seen, finding.source, finding.remedy)
    return table


def _movers(found: tuple[movers.Mover, ...]) -> Table:
    table = _table("Who else moves pages", "who", "is", "so")
    for mover in found:
        table.add_row(mover.name, mover.value, mover.means)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
