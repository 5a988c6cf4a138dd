# SPDX-License-Identifier: Apache-2.0

"""Count what share of a workload's accesses is remote in the 80 s after its label, whoever may move it.

    .venv/bin/python bench/matrix_in_guests.py --minutes 60
    .venv/bin/python bench/matrix_in_guests.py --guest two-nodes --workload late-bound --runs 3 --since 2026-11-30

Boots guests for those cells of the matrix that docs/policies-in-guests.jsonl does not have so often yet, says beforehand
how long that will take, keeps each cell as soon as it is measured, and writes docs/policies-in-guests.md anew.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import matrix_table
from tests.vm import fill
from tests.vm.bench import BUILD, ROOT
from tests.vm.cells import LABELS, MOVERS, balancing, measure
from tests.vm.guests import BY_NAME, Guest
from tests.vm.nine import NINE, UNBOUND

WORKLOADS = NINE | {"unbound": UNBOUND}
GUESTS = {
    "two-nodes": list(WORKLOADS),
    "two-watched-nodes": list(WORKLOADS),
    "four-nodes": ["late-bound", "crossed-jobs", "forked-shards"],
}
WIDE = "two-wide-nodes"  # where threads can be bound: they want whole cores, and the daemon has CPUs left
MB, LARGE_MB = 150, 450  # numad leaves alone what has 300 MB or less
RUN_S, LARGE_RUN_S = 80, 180
BOOT_S, AROUND_S = 60, 15  # of a guest, and of a cell, beside its run
CELLS = "cells.jsonl"


class Cell(NamedTuple):
    """What is measured: a line of words joined by slashes tells it."""

    guest: str
    mover: str
    balancing: str
    workload: str
    mb: int = MB

    @property
    def run_s(self) -> int:
        """For how long it is counted."""
        return LARGE_RUN_S if self.mb == LARGE_MB else RUN_S

    @staticmethod
    def read(text: str) -> "Cell":
        """Read a cell from words joined by slashes."""
        *words, mb = text.split("/")
        return Cell(*words, int(mb))


def matrix() -> Iterator[Cell]:
    """Give all of it, in the order in which it is measured."""
    for guest, workloads in GUESTS.items():
        decided = itertools.product(("threshold", "hold", "learned"), ("off", "on"))
        for mover, switch in (*decided, ("numad", "off")):
            yield from (Cell(guest, mover, switch, workload) for workload in workloads)
        if "unbound" in workloads:
            yield from (Cell(guest, "numad", "off", each, LARGE_MB) for each in ("late-bound", "unbound"))
    for switch, movers in (
        ("off", ("hold", "gpu-rank")),
        ("on", ("hold", "threshold", "learned", "gpu-rank")),
    ):
        yield from (Cell(WIDE, mover, switch, "unbound") for mover in movers)


def run_in_guest(cells: list[Cell]) -> None:
    """Measure cells of this guest; each outlives it."""
    guest = BY_NAME[os.environ["NUMAD_VM_TESTS"]]
    left = Path(os.environ["NUMAD_VM_FOLDER"]) / CELLS
    with tempfile.TemporaryDirectory() as folder, fill.disk(Path(folder)) as mount:
        for (mover, switch), alike in itertools.groupby(cells, lambda cell: (cell.mover, cell.balancing)):
            with balancing(on=switch == "on"), MOVERS[mover]() as pid:
                for cell in alike:
                    found = run(cell, guest, pid, mount / "file")
                    with left.open("a") as lines:
                        lines.write(json.dumps(found) + "\n")
                    print(*("/".join(map(str, cell)), found), flush=True)


def run(cell: Cell, guest: Guest, pid: int | None, file: Path) -> dict[str, object]:
    """Measure one cell."""
    workload = WORKLOADS[cell.workload]
    if workload.mb > cell.mb:
        workload = replace(workload, mb=cell.mb)
    elif cell.mb == LARGE_MB:
        workload = replace(workload, mb=LARGE_MB)
    label = LABELS.get(cell.mover, "default")
    found = measure(guest, workload, pid, file, label=label, seconds=cell.run_s)
    when = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime())
    return cell._asdict() | {"run_s": cell.run_s, **found, "kernel": platform.release(), "date": when}


def boot(guest: str, cells: list[Cell], limit_s: float) -> bool:
    """Measure cells in one guest, and keep what it left, also where it did not come to an end; say if it left any."""
    commit = _git("rev-parse", "--short", "HEAD")
    if _git("status", "--porcelain", "numad_py", "policies", "tests"):
        commit += "-dirty"
    left = BUILD / guest / CELLS
    left.unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.vm.guest", "--guest", guest, "--count-accesses"]
    words += [f"--limit={limit_s}", "--bench", "bench/matrix_in_guests.py", "--in-guest"]
    try:
        subprocess.run([*words, *("/".join(map(str, cell)) for cell in cells)], cwd=ROOT, check=False)
    finally:
        found = [json.loads(line) for line in left.read_text().splitlines()] if left.exists() else []
        matrix_table.keep([{**each, "commit": commit} for each in found])
    return bool(found)


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def wanted(said: argparse.Namespace) -> list[Cell]:
    """Give the cells that are asked for and were not measured so often yet."""
    kept = [each for each in matrix_table.kept() if each["date"] >= said.since]
    measured = [tuple(each[name] for name in Cell._fields) for each in kept]
    asked = [
        cell
        for cell in matrix()
        if all(
            getattr(cell, name) in (getattr(said, name) or [getattr(cell, name)])
            for name in ("guest", "mover", "balancing", "workload")
        )
    ]
    return [cell for number in range(1, said.runs + 1) for cell in asked if measured.count(cell) < number]


def fitting(cells: list[Cell], seconds: float) -> list[Cell]:
    """Give the first of some cells, all of one guest, that fit into a time."""
    mine = [cell for cell in cells if cell.guest == cells[0].guest]
    ends = itertools.accumulate((cell.run_s + AROUND_S for cell in mine), initial=BOOT_S)
    next(ends)
    chosen = [cell for cell, end in zip(mine, ends, strict=True) if end <= seconds]
    return sorted(chosen, key=lambda cell: (cell.mover, cell.balancing))  # each mover is started once


def expected_s(cells: list[Cell]) -> float:
    """Give how long it takes to measure them, each guest booted once."""
    return sum(cell.run_s + AROUND_S for cell in cells) + BOOT_S * len({cell.guest for cell in cells})


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, choices in (
        ("guest", [*GUESTS, WIDE]),
        ("mover", MOVERS),
        ("balancing", ("off", "on")),
        ("workload", WORKLOADS),
    ):
        parser.add_argument(
            f"--{name}", action="append", choices=choices, help="may be given again; all of them"
        )
    parser.add_argument("--runs", type=int, default=1, help="how often each (%(default)s)")
    parser.add_argument(
        "--since", default="", metavar="TIME", help="count no run before it: 2026-11-30, or 2026-11-30T10:12Z"
    )
    parser.add_argument("--minutes", type=float, default=600, help="stop booting then (%(default)s)")
    parser.add_argument("--in-guest", nargs="+", type=Cell.read, metavar="CELL", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks."""
    said = arguments()
    if said.in_guest:
        run_in_guest(said.in_guest)
        return
    until_s = time.monotonic() + 60 * said.minutes
    while cells := wanted(said):
        print(
            f"{len(cells)} cells to measure, {expected_s(cells) / 60:.0f} minutes on a quiet host", flush=True
        )
        left_s = until_s - time.monotonic()
        chosen = fitting(cells, left_s)
        if not chosen or not boot(chosen[0].guest, chosen, left_s):
            break
    matrix_table.write(len(list(matrix())))


if __name__ == "__main__":
    main()
