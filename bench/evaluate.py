# SPDX-License-Identifier: Apache-2.0

"""Hold what is shipped against others: held scenarios and traces by row, policies by column, and an oracle.

``make evaluate``, or ``python bench/evaluate.py [SEED] [--policy NAME ...]``: the seed draws every figure of
sim/scenarios/held/ that is a range, and is the commit's number by default. The table is appended to
docs/evaluations.md with date, commit and seed. A seed that was used there before is refused: what was seen once is
tuned on. ``--print`` writes nothing, and takes any seed; so does ``--tuning``, which plays sim/scenarios/*.yaml instead
of the held ones.
"""

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py.cli import progress, replaying
from numad_py.sim import held, pool, report, script
from numad_py.sim.baselines import BASELINES
from numad_py.sim.replay import BASELINE

ROOT = Path(__file__).parents[1]
SCENARIOS = ROOT / "sim" / "scenarios"
HELD = SCENARIOS / "held"
TRACES = (ROOT / "sim" / "traces", ROOT / "sim" / "guests")
EVALUATIONS = ROOT / "docs" / "evaluations.md"
PROFILES = tuple(sorted(path.stem for path in (ROOT / "policies").glob("*.yaml") if path.stem != BASELINE))
COLUMNS = (BASELINE, *BASELINES, *PROFILES)
WORTH_SAVING_SHARE = 0.02  # of hold's time, below which the bound leaves nothing to be scored
NOT_WORSE = 1.03
CELL_S = 1.5  # of a CPU, that one policy on one row takes


def main(arguments=None, evaluations=EVALUATIONS):
    """Print an evaluation, append it, and give the exit status."""
    options = parsed(arguments)
    seed, commit = options.seed or at_commit(), at_commit()
    printed = options.print or options.tuning or options.row
    if not printed and f", seed {seed}\n" in evaluations.read_text(encoding="utf-8"):
        print(f"seed {seed} is in {evaluations.name}: what was seen is known; take another, or --print")
        return 1
    columns = tuple(dict.fromkeys((BASELINE, *(options.policy or COLUMNS))))
    text = section(seed, commit, table(rows(cases(seed, columns, options))))
    print(text)
    if not printed:
        with evaluations.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
    return 0


def parsed(arguments):
    """Give the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "seed", nargs="?", metavar="SEED", help="a date or a commit; this commit's by default"
    )
    parser.add_argument("--policy", action="append", metavar="NAME", help="a column; may be given again")
    parser.add_argument("--row", action="append", metavar="NAME", help="these rows only, and write nothing")
    parser.add_argument("--tuning", action="store_true", help="scenarios to tune on, and write nothing")
    parser.add_argument("--print", action="store_true", help="write nothing down")
    return parser.parse_args(arguments)


def at_commit():
    """Give the commit's number, and say so where files differ from it."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--dirty=-changed",
        "--exclude=*",
        "--abbrev=12",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def section(seed, commit, lines):
    """Give the text of one evaluation."""
    today = datetime.now(UTC).date().isoformat()
    return "\n".join([f"## {today}, commit {commit}, seed {seed}", "", *lines])


def cases(seed, columns, options):
    """Give what is to be replayed by name: scenarios, drawn with that seed where they are held, and traces."""
    under = replaying.Conditions(columns)
    if options.tuning:
        scenarios = {path: script.document(path) for path in sorted(SCENARIOS.glob("*.yaml"))}
    else:
        scenarios = {path: held.document(path, seed) for path in sorted(HELD.glob("*.yaml"))}
    traces = dict.fromkeys(path for folder in TRACES for path in sorted(folder.glob("*.jsonl.zst")))
    every = {
        named(path): replaying.Case(path, under, mapping) for path, mapping in (scenarios | traces).items()
    }
    return {name: case for name, case in every.items() if not options.row or name in options.row}


def named(path):
    """Give a row's name: a trace's tells its folder, since guests ran what scenarios tell, too."""
    stem = path.name.partition(".")[0]
    return stem if path.suffix == ".yaml" else f"{path.parent.name}/{stem}"


def rows(wanted):
    """Replay all rows, and give by name and policy what `report.values` tells."""
    names, jobs = list(wanted), pool.usable_cpus()
    columns = len(next(iter(wanted.values())).under.policies)
    minutes = len(names) * columns * CELL_S / 60 / jobs
    print(f"{len(names)} rows, {columns} policies: about {minutes:.0f} min on {jobs} cores", file=sys.stderr)
    found = {}
    with progress.bar("evaluating", len(names), shown=True) as tell:
        for number, each in pool.results(replaying.replayed, list(wanted.values()), jobs=jobs, tell=ignored):
            found[names[number]] = report.values(each.scores)
            tell(1)
    return {name: found[name] for name in names}


def ignored(_bytes):
    """Count rows, not bytes."""


def table(found):
    """Give the lines of the table: a row for each replay, and below what they come to."""
    columns = list(next(iter(found.values())))
    cells = {name: [cell(values[column]) for column in columns] for name, values in found.items()}
    below = {title: [figure(of(found, column)) for column in columns] for title, figure in SUMMARY.items()}
    lines = [f"| of the oracle's saving | oracle / hold | {' | '.join(columns)} |"]
    lines.append(f"| --- | ---: |{' ---: |' * len(columns)}")
    lines += [f"| {name} | {bound(found[name]):.3f} | {' | '.join(row)} |" for name, row in cells.items()]
    return lines + [f"| **{title}** | | {' | '.join(row)} |" for title, row in below.items()]


def of(found, column):
    """Give one policy's figures on every row."""
    return [values[column] | {"hold_step": values[BASELINE]["worst_step"]} for values in found.values()]


def bound(values):
    """Give the oracle's time as a multiple of doing nothing."""
    return values[BASELINE]["least_s"] / values[BASELINE]["modelled_s"]


def savable(values):
    """Give the share of hold's time that the oracle saves, which is another for a policy that moves threads."""
    least_s = values["least_anywhere_s"] if values["task_moves"] else values["least_s"]
    return 1 - least_s / values["modelled_s"] * values["modelled_time_to_hold"]


def to_save(values):
    """Say whether the bound leaves something to be scored."""
    return savable(values) >= WORTH_SAVING_SHARE


def cell(values):
    """Give the share of the oracle's saving, or where there is none whether it is worse; bold is worse by too much."""
    time = values["modelled_time_to_hold"]
    scored = f"{values['gained_share']:.0%}" if to_save(values) else "not worse"
    if time > NOT_WORSE:
        return f"**{time:.3f} of hold**"
    return scored if to_save(values) or time <= 1 else f"{time:.3f} of hold"


def shares(figures):
    """Give the shares of the oracle's saving where there is something to save."""
    return [each["gained_share"] for each in figures if to_save(each)] or [0.0]


def perfect_shares(figures):
    """Give the same of policies that see the machine as it is."""
    return [(1 - each["perfect_to_hold"]) / savable(each) for each in figures if to_save(each)] or [0.0]


SUMMARY = {
    "median": lambda figures: f"{np.median(shares(figures)):.0%}",
    "lower quartile": lambda figures: f"{np.quantile(shares(figures), 0.25):.0%}",
    "worst": lambda figures: f"{min(shares(figures)):.0%}",
    "median, with perfect sight": lambda figures: f"{np.median(perfect_shares(figures)):.0%}",
    "longest time / hold": lambda figures: f"{max(each['modelled_time_to_hold'] for each in figures):.3f}",
    "pages moved": lambda figures: f"{sum(each['moved_pages'] for each in figures):,}",
    "worst step / hold": lambda figures: (
        f"{max(each['worst_step'] / each['hold_step'] for each in figures):.2f}"
    ),
}


if __name__ == "__main__":
    sys.exit(main())
