# SPDX-License-Identifier: Apache-2.0

"""What bench/matrix_in_guests.py measured, line by line in docs/policies-in-guests.jsonl, as the tables of the page beside it."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
CELLS = DOCS / "policies-in-guests.jsonl"
PAGE = DOCS / "policies-in-guests.md"
BEGIN = "<!-- from here on written by bench/matrix_in_guests.py -->\n"
COLUMNS = "workload | balancing | who moves | remote share | under 10 % after | pages moved | its CPU time | wanted | pace | commit"
MOST_SHARE = {"late-bound": 0.10, "crossed-jobs": 0.10, "wanderer-25-s": 0.15}
TASKS, MOST_SHARE_OF_TASKS = "gpu-rank", {"unbound": 0.10}
SHARED_SHARE = {"forked-shards": 0.15, "shared-shards": 0.15, "file-shards": 0.15}
SETTLES_S = {"late-bound": 8, "crossed-jobs": 8}
SETTLES_S_OF_TASKS = {"unbound": 8}
RESTLESS, RESTLESS_SHARE, RESTLESS_PAGES = "wanderer-2-s", 0.03, 49_030
KERNEL_SHARE, KERNEL_PAGES = 0.02, 1.05
NOBODY = "hold"
SHOWN_RUNS = 3


class Row(NamedTuple):
    """What cells are alike in."""

    guest: str
    workload: str
    mb: int
    balancing: str
    mover: str


Rows = dict[Row, list[dict[str, Any]]]


def kept() -> list[dict[str, Any]]:
    """Read all that was measured."""
    return [json.loads(line) for line in CELLS.read_text().splitlines()] if CELLS.exists() else []


def keep(cells: list[dict[str, Any]]) -> None:
    """Add what was measured."""
    with CELLS.open("a") as lines:
        lines.writelines(json.dumps(cell) + "\n" for cell in cells)


def write(cells: int) -> None:
    """Write the tables, of so many cells in all and the last runs of each, below what the page says by hand."""
    rows: Rows = defaultdict(list)
    for cell in kept():
        rows[Row(*(cell[name] for name in Row._fields))].append(cell)
    rows = {row: cells[-SHOWN_RUNS:] for row, cells in rows.items()}
    head = PAGE.read_text().partition(BEGIN)[0]
    counted = f"\nOf {cells} cells {len(rows)} were measured.\n"
    PAGE.write_text(head + BEGIN + counted + "".join(f"{line}\n" for line in _lines(rows)))


def _lines(rows: Rows) -> Iterator[str]:
    for guest in dict.fromkeys(row.guest for row in rows):
        mine = {row: cells for row, cells in rows.items() if row.guest == guest}
        kernels = sorted({each["kernel"] for every in mine.values() for each in every})
        yield from ("", f"## {guest}, Linux {', '.join(kernels)}", "", f"| {COLUMNS} |", "|" + " --- |" * 10)
        yield from (f"| {' | '.join(_words(row, rows))} |" for row in sorted(mine))
        yield from _in_all(mine)


def _in_all(rows: Rows) -> Iterator[str]:
    """Compare the pages that move with balancing on, over the workloads of which both are known."""
    for mover in sorted({row.mover for row in rows} - {NOBODY, "numad"}):
        both = [
            row
            for row in rows
            if (row.mover, row.balancing) == (mover, "on") and row._replace(mover=NOBODY) in rows
        ]
        pages = [
            sum(_median(rows[row._replace(mover=who)], "moved_pages") for row in both)
            for who in (mover, NOBODY)
        ]
        if both:
            what = f"With balancing on, in {len(both)} workloads {mover} and the kernel moved {pages[0]:,.0f} pages"
            yield from (
                "",
                f"{what}, and the kernel alone {pages[1]:,.0f}; fewer were wanted: {_kept(met=pages[0] < pages[1])}.",
            )


def _kept(*, met: bool) -> str:
    return "met" if met else "missed"


def _words(row: Row, rows: Rows) -> Iterator[str]:
    cells = rows[row]
    yield row.workload + (f", {row.mb} MiB" if row.mb > 300 else "")
    yield row.balancing
    yield "nobody" if row.mover == NOBODY else row.mover
    yield _figures(cells, "remote_access_share", ".3f")
    settled = sorted(cell["settled_s"] for cell in cells if cell["settled_s"] is not None)
    yield ", ".join([*(f"{each} s" for each in settled), *["never"] * (len(cells) - len(settled))])
    yield _figures(cells, "moved_pages", ",.0f")
    yield "" if row.mover == NOBODY else _figures(cells, "mover_cpu_s", ".1f") + " s"
    yield "; ".join(f"{what}: {_kept(met=met)}" for what, met in _wanted(row, rows))
    pace = [each for cell in cells for each in cell["pace_ms"]]
    yield f"{min(pace):.0f}–{max(pace):.0f} ms"
    yield ", ".join(dict.fromkeys(cell["commit"] for cell in cells))


def _figures(cells: list[dict[str, Any]], name: str, form: str) -> str:
    """Give the median, and the range where there were several runs."""
    values = [cell[name] for cell in cells]
    text = format(_median(cells, name), form)
    return text + (f" ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else "")


def _median(cells: list[dict[str, Any]], name: str) -> float:
    return statistics.median(cell[name] for cell in cells)


def _wanted(row: Row, rows: Rows) -> Iterator[tuple[str, bool]]:
    """Say what the daemon was to come to, and whether it did."""
    if row.mover in {NOBODY, "numad"}:
        return
    cells, alone = rows[row], rows.get(row._replace(mover=NOBODY))
    share, pages = _median(cells, "remote_access_share"), _median(cells, "moved_pages")
    tasks = row.mover == TASKS
    most = (MOST_SHARE_OF_TASKS if tasks else MOST_SHARE) if row.balancing == "off" else {}
    most = most | (SHARED_SHARE if cells[0]["kernel"].startswith("6.12") else {})
    if row.workload in most:
        yield f"at most {most[row.workload]:.2f}", share <= most[row.workload]
    settles_s = SETTLES_S_OF_TASKS if tasks else SETTLES_S
    if row.balancing == "off" and row.workload in settles_s:
        limit_s = settles_s[row.workload]
        settled = [cell["settled_s"] for cell in cells]
        yield f"after {limit_s} s", all(each is not None and each <= limit_s for each in settled)
    if row.workload == RESTLESS and row.balancing == "off":
        yield f"at most {RESTLESS_PAGES:,} pages", pages <= RESTLESS_PAGES
    if alone and (row.balancing == "on" or row.workload == RESTLESS):
        most_over = KERNEL_SHARE if row.balancing == "on" else RESTLESS_SHARE
        share_alone = _median(alone, "remote_access_share")
        yield f"at most {most_over:.2f} over nobody's", share <= share_alone + most_over
    if alone and row.balancing == "on":
        yield f"{KERNEL_PAGES:.2f} times the pages", pages <= KERNEL_PAGES * _median(alone, "moved_pages")
