# SPDX-License-Identifier: Apache-2.0

"""Fit regression trees with scikit-learn, and say how good they are where nothing was trained on.

Problem: a score is honest only if nothing that was chosen knew what is scored.
Primitive: in each fold, how large the trees are is chosen by folds of families within what is trained on, and nothing
of what is scored is looked at, not even its range: trees need no scaling.
Application: the model that ships is fitted once more, on all examples, with the size that most folds chose.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from numad_py.learn import CannotTrain, split
from numad_py.learn.examples import HORIZON_S, Examples
from numad_py.learn.split import Split
from numad_py.policies.features import NAMES
from numad_py.policies.trees import Model, Tree
from numad_py.topology import Columns, Floats, Ints

SIZES: Final = (3, 4)  # how deep trees are: less deep, they know no interplay of turns and stays
TREES: Final = 60
RATE: Final = 0.1
LEAST_LEAF: Final = 40
INNER_FOLDS: Final = 3
FEWEST: Final = 200  # examples that a fold is trained on


@dataclass(frozen=True, eq=False)
class Scored(Columns):
    """Predictions of what nothing was trained on, beside what it came to; ``plain`` is the mean of what was trained on.

    Moving is thought to take ``cost_ns``, and took ``paid_ns``.
    """

    fold: Ints
    label: Floats
    predicted: Floats
    plain: Floats
    predicted_ns: Floats
    cost_ns: Floats
    paid_ns: Floats

    @property
    def skill(self) -> float:
        """Give the share of the squared error of always saying the mean that is gone; 0 or less is no skill."""
        return 1 - _squared(self.predicted - self.label) / max(_squared(self.plain - self.label), 1e-12)

    @property
    def skill_of_prices(self) -> float:
        """Give the same of prices alone, which expect what they predict."""
        return 1 - _squared(1.0 - self.label) / max(_squared(self.plain - self.label), 1e-12)

    def right(self, times: Floats) -> float:
        """Say of which share it is right whether moving pays for itself within the horizon."""
        worth = self.label * self.predicted_ns * HORIZON_S > self.paid_ns
        said = times * self.predicted_ns * HORIZON_S > self.cost_ns
        return float((worth == said).mean())


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model, how it scored, which size was chosen by fold, and how much each feature decides."""

    model: Model
    scored: Scored
    sizes: tuple[int, ...]
    importance: dict[str, float]


def fit(examples: Examples, by: Split, tell: Callable[[str], None], seed: int = 1) -> Fitted:
    """Score by folds, then fit on all; raise CannotTrain where there is too little to score by.

    ``seed`` draws the half of the examples that each tree is grown on.
    """
    parts, sizes = [], []
    for fold in range(split.FOLDS):
        train, test = split.sides(by, examples.family, examples.machine, fold)
        if len(train) < FEWEST or not len(test):
            continue
        size = _size(examples.take(train), seed)
        sizes.append(size)
        parts.append(_scored(examples.take(train), examples.take(test), size, fold, seed))
        tell(
            f"fold {fold + 1}: trained on {len(train):,} examples, scored on {len(test):,}, skill {parts[-1].skill:.2f}"
        )
    if not parts:
        raise CannotTrain(
            "too few scenarios and traces: no fold has enough to train on and something to score"
        )
    size = Counter(sizes).most_common(1)[0][0]
    regressor = _fitted(examples, size, seed)
    importance = dict(zip(NAMES, regressor.feature_importances_.tolist(), strict=True))
    return Fitted(model_of(regressor, examples), Scored.joined(parts), tuple(sizes), importance)


def _size(train: Examples, seed: int) -> int:
    """Choose how deep trees are by families of what is trained on."""
    number = np.unique(train.family, return_inverse=True)[1] % INNER_FOLDS
    errors = {
        size: sum(
            _squared(
                _fitted(train.take(np.flatnonzero(number != inner)), size, seed).predict(
                    train.features[number == inner]
                )
                - train.label[number == inner]
            )
            for inner in sorted({*number.tolist()})
            if (number != inner).sum() >= FEWEST
        )
        for size in SIZES
    }
    return min(errors, key=lambda size: errors[size])


def _fitted(examples: Examples, size: int, seed: int) -> Any:
    regressor = GradientBoostingRegressor(
        max_depth=size,
        n_estimators=TREES,
        learning_rate=RATE,
        min_samples_leaf=LEAST_LEAF,
        subsample=0.5,
        random_state=seed,
    )
    return regressor.fit(examples.features, examples.label)


def _scored(train: Examples, test: Examples, size: int, fold: int, seed: int) -> Scored:
    """Score on costs that are off."""
    return Scored(
        np.full(len(test), fold),
        test.off,
        _fitted(train, size, seed).predict(test.features),
        np.full(len(test), train.label.mean()),
        test.predicted_ns,
        test.cost_ns,
        test.paid_ns,
    )


def model_of(regressor: Any, examples: Examples) -> Model:
    """Give a fitted regressor as numbers."""
    trees = tuple(_tree(each[0].tree_) for each in regressor.estimators_)
    base = float(regressor.init_.constant_[0][0])
    lower, upper = examples.features.min(axis=0).tolist(), examples.features.max(axis=0).tolist()
    return Model(NAMES, tuple(lower), tuple(upper), HORIZON_S, base, RATE, trees)


def _tree(grown: Any) -> Tree:
    leaf = grown.children_left < 0
    return Tree(
        tuple(np.where(leaf, 0, grown.feature).tolist()),
        tuple(np.where(leaf, 0.0, grown.threshold).tolist()),
        tuple(grown.children_left.tolist()),
        tuple(grown.children_right.tolist()),
        tuple(grown.value[:, 0, 0].tolist()),
    )


def _squared(error: Floats) -> float:
    return float((error**2).sum())
