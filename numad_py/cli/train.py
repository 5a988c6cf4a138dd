# SPDX-License-Identifier: Apache-2.0

"""``numad-py train``: train the model that the policy `learned` asks."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from numad_py.cli.progress import bar
from numad_py.cli.writable import refuse_unwritable
from numad_py.learn import CannotTrain, card, draws, split
from numad_py.learn.draws import Case
from numad_py.learn.examples import Examples, effect_of, of
from numad_py.policies import trees
from numad_py.sim import pool, shipped

CARD: Final = ".md"
UNSCORED: Final = "Not a default: whether it beats `greedy` and `default` has not been told; run bench/evaluate.py and say so with --verdict."


def train(  # noqa: PLR0913 - options of a command line
    traces: Annotated[
        list[Path] | None,
        typer.Argument(metavar="TRACE", help="What was recorded, to learn from too.", show_default=False),
    ] = None,
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A scenario that may be tuned on; may be given again. Default: all shipped.",
        ),
    ] = None,
    draws_each: Annotated[
        int, typer.Option("--draws", metavar="N", min=1, help="How often each scenario is drawn.")
    ] = 6,
    made_each: Annotated[
        int, typer.Option("--made", metavar="N", min=0, help="How many jobs of each kind are made up.")
    ] = 24,
    split_file: Annotated[
        Path, typer.Option("--split", metavar="FILE", help="Which cases are scored together.")
    ] = Path("model.split.json"),
    write_split: Annotated[
        bool, typer.Option("--write-split", help="Write that file and end; commit it before training.")
    ] = False,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The model; its card is put beside it.")
    ] = Path("model.json"),
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Draws the examples that each tree is grown on.")
    ] = 1,
    verdict: Annotated[
        str, typer.Option(metavar="SENTENCE", help="What an evaluation of it found: the card's first line.")
    ] = UNSCORED,
) -> None:
    """Train the model of the policy `learned`, and write its card.

    Scenarios are drawn anew and played on simulated machines whose costs are drawn, too. What is scored is of families of
    workloads, and of machines, that nothing was trained on. Needs scikit-learn.
    """
    paths = [
        shipped.find("scenarios", name) for name in scenario or ([] if traces else shipped.names("scenarios"))
    ]
    cases = draws.cases(paths, traces or [], draws_each, made_each)
    if write_split:
        split.write(split.made(cases), split_file)
        print(f"{split_file} is written, with {len(cases)} cases: commit it, then train")
        return
    by = split.read(split_file)
    split.check(by, cases, split_file)
    _refuse_without_library()
    _refuse_output(output)
    _train(cases, by, output, verdict, seed)


def _refuse_without_library() -> None:
    if not importlib.util.find_spec("sklearn"):
        raise CannotTrain("train needs scikit-learn, which is not installed: pip install 'numad-py[train]'")


def _refuse_output(output: Path) -> None:
    refuse_unwritable(output)
    if output.suffix == CARD:
        raise typer.BadParameter(f"{output}: the card takes that name: end in .json", param_hint="--output")
    refuse_unwritable(output.with_suffix(CARD))


def _train(cases: Sequence[Case], by: split.Split, output: Path, verdict: str, seed: int) -> None:
    from numad_py.learn import fitting  # noqa: PLC0415 - scikit-learn takes seconds, for this verb alone

    effects = {case.name: found for case in cases if case.is_trace and (found := effect_of(case))}
    for name, effect in effects.items():
        print(f"{name}: {effect}")
    examples = _played(cases)
    fitted = fitting.fit(examples, by, print, seed)
    output.write_bytes(trees.written(fitted.model))
    beside = output.with_suffix(CARD)
    beside.write_text(card.text(fitted, examples, cases, effects, verdict), encoding="utf-8")
    print(f"{output} and {beside} are written; skill where nothing was trained on: {fitted.scored.skill:.2f}")


def _played(cases: Sequence[Case]) -> Examples:
    found: dict[int, Examples] = {}
    with bar("playing", len(cases), shown=True) as tell:
        for number, each in pool.results(examples_of, cases, jobs=pool.usable_cpus(), tell=lambda _: None):
            found[number] = each
            tell(1)
    return Examples.joined([found[number] for number in range(len(cases))])


def examples_of(case: Case, _tell: Callable[[int], None]) -> Examples:
    """Play one case in a process of its own."""
    return of(case)
