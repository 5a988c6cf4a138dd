# SPDX-License-Identifier: Apache-2.0

"""Write down beside a model what it is, what it was trained on, and how wrong it is."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from numad_py.learn import draws
from numad_py.learn.draws import Case
from numad_py.learn.examples import HORIZON_S, NOTICED_S, Examples
from numad_py.learn.withheld import Effect

if TYPE_CHECKING:  # it imports scikit-learn
    from numad_py.learn.fitting import Fitted, Scored

BINS: Final = (-1.0, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


def text(
    fitted: "Fitted", examples: Examples, cases: Sequence[Case], effects: Mapping[str, Effect], verdict: str
) -> str:
    """Give the card; its first line is the verdict, and ``effects`` are by trace, of those where jobs were withheld."""
    lines = [
        verdict,
        "",
        "# The model of `learned`",
        "",
        *_what(fitted, examples, cases),
        *_errors(fitted.scored),
        *_calibration(fitted.scored),
        *_withheld(effects),
        *_features(fitted),
        *_limits(effects),
    ]
    return "\n".join(lines) + "\n"


def _what(fitted: "Fitted", examples: Examples, cases: Sequence[Case]) -> Iterator[str]:
    yield f"{len(fitted.model.trees)} regression trees of depth {max(fitted.sizes)} at most, by scikit-learn's GradientBoostingRegressor."
    yield f"They say how many times the saving that `numad_py/prices.py` predicts a candidate will have had within {HORIZON_S:.0f} s,"
    yield f"until it would have been a loss for {NOTICED_S:.0f} s and been brought back, which is charged."
    yield ""
    families, machines = sorted({case.family for case in cases}), sorted({*examples.machine.tolist()})
    yield f"- **Data**: {len(examples):,} candidates of {len(cases)} cases of {len(families)} families ({', '.join(families)}), seen as a sensor within its budget sees them."
    yield f"- **Machines**: costs drawn around {', '.join(machines)}: distance 0.6 to 1.6 times, moving 0.4 to 2.5 times, 10 to 60 % of the time waiting."
    yield f"- **Scores**: of families and machines that the fold was not trained on, with distance, moving and waiting each {draws.OFF:.0%} off."
    yield ""


def _errors(scored: "Scored") -> Iterator[str]:
    yield "## Errors"
    yield ""
    yield "| fold | examples | mean absolute error | skill | of prices alone |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for fold in sorted({*scored.fold.tolist()}):
        part = scored.take(np.flatnonzero(scored.fold == fold))
        yield f"| {fold + 1} | {len(part.label):,} | {_mae(part):.2f} | {part.skill:.2f} | {part.skill_of_prices:.2f} |"
    yield f"| all | {len(scored.label):,} | {_mae(scored):.2f} | {scored.skill:.2f} | {scored.skill_of_prices:.2f} |"
    yield ""
    right, prices = scored.right(scored.predicted), scored.right(np.ones_like(scored.label))
    yield "Skill is the share of the squared error of always saying the mean of the training labels that is gone; 0 is none."
    yield f"Whether a move pays for itself within {HORIZON_S:.0f} s is told rightly of {right:.0%} of the candidates, by what moving really took; prices alone tell {prices:.0%}."
    yield ""


def _calibration(scored: "Scored") -> Iterator[str]:
    yield "## Calibration"
    yield ""
    yield "| predicted | examples | predicted, mean | had, mean |"
    yield "| --- | ---: | ---: | ---: |"
    for low, high in pairwise(BINS):
        within = (scored.predicted >= low) & (scored.predicted < high)
        if within.any():
            means = scored.predicted[within].mean(), scored.label[within].mean()
            yield f"| {low:g} to {high:g} | {within.sum():,} | {means[0]:.2f} | {means[1]:.2f} |"
    yield ""


def _withheld(effects: Mapping[str, Effect]) -> Iterator[str]:
    if effects:
        yield "## Moved against withheld"
        yield ""
        yield from (f"- {name}: {effect}" for name, effect in effects.items())
        yield ""


def _features(fitted: "Fitted") -> Iterator[str]:
    yield "## Features"
    yield ""
    yield "Outside these bounds the rules of `threshold` decide."
    yield ""
    yield "| feature | importance | from | to |"
    yield "| --- | ---: | ---: | ---: |"
    model = fitted.model
    bounds = dict(zip(model.features, zip(model.lower, model.upper, strict=True), strict=True))
    for name, share in sorted(fitted.importance.items(), key=lambda each: -each[1]):
        yield f"| {name} | {share:.1%} | {bounds[name][0]:.3g} | {bounds[name][1]:.3g} |"
    yield ""


def _limits(effects: Mapping[str, Effect]) -> Iterator[str]:
    yield "## Limits"
    yield ""
    if not effects:
        yield "- Trained in simulators alone: no machine with several nodes was measured, and no guest."
    yield "- Memory is taken to be idle: what a move relieves or burdens is not in the labels."
    yield "- Nothing was moved while examples were noted: what a process does after a move is taken to be what it did without."
    yield "- Parts of memory that an investigation told apart, and what processes of a job share, are weighed by the rules."
    yield "- Whether kernel balancing is on stands in no snapshot, and so in no feature."


def _mae(scored: "Scored") -> float:
    return float(np.abs(scored.predicted - scored.label).mean())
