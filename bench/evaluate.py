# SPDX-License-Identifier: Apache-2.0

"""Play the held scenarios, whose figures nobody knew before, and write down what the shipped policies came to.

``make evaluate``, or ``python bench/evaluate.py [SEED] [--policy NAME ...]``: the seed draws every figure of
sim/scenarios/held/ that is a range, and is the commit's number by default. The result is appended to
docs/evaluations.md with date, commit and seed. A seed that was used there before is refused: what was seen once is
tuned on. ``--print`` writes nothing, and takes any seed.
"""

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import profiles
from numad_py.policies.hold import Hold
from numad_py.sim import held, replay, report, scenario

ROOT = Path(__file__).parents[1]
HELD = ROOT / "sim" / "scenarios" / "held"
EVALUATIONS = ROOT / "docs" / "evaluations.md"
COLUMNS = (
    "modelled time / hold",
    "of the possible gain",
    "local at the end",
    "settled, slowest job",
    "moved, MB",
)


def main(arguments=None, evaluations=EVALUATIONS):
    """Print an evaluation, append it, and give the exit status."""
    options = parsed(arguments)
    seed, commit = options.seed or at_commit(), at_commit()
    before = evaluations.read_text(encoding="utf-8")
    if not options.print and f", seed {seed}\n" in before:
        print(f"seed {seed} is in {evaluations.name}: what was seen is known; take another, or --print")
        return 1
    text = section(seed, commit, options.policy or ["default", "interleave"])
    print(text)
    if not options.print:
        with evaluations.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
    return 0


def parsed(arguments):
    """Give the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "seed", nargs="?", metavar="SEED", help="a date or a commit; this commit's by default"
    )
    parser.add_argument("--policy", action="append", metavar="NAME", help="may be given again")
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


def section(seed, commit, policies):
    """Give the text of one evaluation: a row for every policy on every held scenario."""
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"## {today}, commit {commit}, seed {seed}",
        "",
        f"| scenario | policy | {' | '.join(COLUMNS)} |",
    ]
    lines.append(f"| --- | --- |{' ---: |' * len(COLUMNS)}")
    for path in sorted(HELD.glob("*.yaml")):
        cells = dict(played(path, seed, policies))
        lines += [f"| {path.stem} | {name} | {' | '.join(row)} |" for name, row in cells.items()]
    return "\n".join(lines)


def played(path, seed, policies):
    """Yield each policy's name and its cells on one scenario, drawn with that seed."""
    drawn = held.read(path, seed)
    every = {"hold": Hold()} | {name: profiles.build(profiles.load(name)) for name in policies}
    prices = scenario.prices(drawn, drawn.header(path.stem))
    scores = replay.scores(scenario.ticks(drawn), every, prices)
    rows = {label: cells for label, *cells in report.rows(scores)}
    for number, name in enumerate(every):
        if name != "hold":
            yield name, [rows[label][number] for label in COLUMNS]


if __name__ == "__main__":
    sys.exit(main())
