# SPDX-License-Identifier: Apache-2.0

"""A trained model, as a file of numbers that numpy evaluates.

Problem: what scikit-learn writes is code, and this runs as root.
Primitive: regression trees are arrays: of each node the feature it asks, the threshold, where to go on, and a value.
Application: the file carries the hash of all that it says. What is damaged, of another format, or could lead in a
circle is refused; what is asked outside the bounds of what was trained on has no answer.
"""

import hashlib
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from numad_py.topology import Floats, Ints

FORMAT: Final = 1
LEAF: Final = -1


class ModelError(ValueError):
    """A model is not to be used; one sentence says why."""


class Tree(msgspec.Struct, frozen=True):
    """Nodes by number, the root first; both ways on from a leaf are `LEAF`. Values that are at most the threshold go left."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is predicted is ``base`` and ``rate`` times what all trees say; bounds are by feature."""

    features: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    horizon_s: float
    base: float
    rate: float
    trees: tuple[Tree, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    sha256: str
    model: msgspec.Raw


def written(model: Model) -> bytes:
    """Give the file of a model."""
    body = msgspec.json.encode(model)
    return msgspec.json.encode(_File(FORMAT, hashlib.sha256(body).hexdigest(), msgspec.Raw(body))) + b"\n"


class Trees:
    """Predicts as the model of a file would, for features of these names; raises ModelError."""

    def __init__(self, file: bytes, features: tuple[str, ...]) -> None:
        self.model = _read(file)
        if self.model.features != features:
            raise ModelError("it was trained on other features than this version computes")
        trees = self.model.trees
        most = max(len(tree.left) for tree in trees)
        self._feature, self._left, self._right = (np.zeros((len(trees), most), np.int64) for _ in range(3))
        self._threshold = np.full((len(trees), most), np.inf, np.float32)
        self._value = np.zeros((len(trees), most))
        for at, tree in enumerate(trees):
            self._put(at, tree)

    def _put(self, at: int, tree: Tree) -> None:
        size = len(tree.left)
        leaf = np.array(tree.left) == LEAF
        itself = np.arange(size)
        self._feature[at, :size] = np.where(leaf, 0, tree.feature)
        # scikit-learn compares float32 values with float64 thresholds; the next float32 below splits them alike.
        self._threshold[at, :size] = np.where(leaf, np.inf, _below(np.array(tree.threshold)))
        self._left[at, :size] = np.where(leaf, itself, tree.left)
        self._right[at, :size] = np.where(leaf, itself, tree.right)
        self._value[at, :size] = tree.value

    def predicted(self, values: Floats) -> Floats:
        """Give a prediction for each row of features; not a number where one is outside the bounds."""
        inside = ((values >= self.model.lower) & (values <= self.model.upper)).all(axis=1)
        found = np.full(len(values), np.nan)
        if inside.any():
            found[inside] = self._evaluated(values[inside].astype(np.float32))
        return found

    def _evaluated(self, values: NDArray[np.float32]) -> Floats:
        # All trees at once, in flat arrays: take() is several times as fast as two indices.
        row = np.arange(len(values))[:, None] * values.shape[1]
        root = np.arange(len(self._left)) * self._left.shape[1]
        at: Ints = np.zeros((len(values), len(root)), np.int64)
        while True:
            node = root + at
            goes_left = values.take(row + self._feature.take(node)) <= self._threshold.take(node)
            then = np.where(goes_left, self._left.take(node), self._right.take(node))
            if (then == at).all():
                break
            at = then
        summed: Floats = self._value.take(node).sum(axis=1)
        return self.model.base + self.model.rate * summed


def _below(threshold: Floats) -> NDArray[np.float32]:
    """Give the largest float32 that is not above."""
    near = threshold.astype(np.float32)
    below: NDArray[np.float32] = np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
    return below


def _read(file: bytes) -> Model:
    try:
        outer = msgspec.json.decode(file, type=_File)
        if outer.format != FORMAT:
            raise ModelError(f"its format is {outer.format}, known is {FORMAT}")
        if hashlib.sha256(bytes(outer.model)).hexdigest() != outer.sha256:
            raise ModelError("it is not as it was written: its hash differs")
        model = msgspec.json.decode(outer.model, type=Model)
    except msgspec.DecodeError as error:
        raise ModelError(f"it is no model: {error}") from None
    if not model.trees or not all(_makes_sense(tree, len(model.features)) for tree in model.trees):
        raise ModelError("its trees make no sense")
    if not len(model.lower) == len(model.upper) == len(model.features):
        raise ModelError("its bounds are not those of its features")
    return model


def _makes_sense(tree: Tree, features: int) -> bool:
    """Say whether every way through it leads on, never back, and ends."""
    size = len(tree.left)
    columns = (tree.feature, tree.threshold, tree.right, tree.value)
    if not size or any(len(column) != size for column in columns):
        return False
    leaf = np.array(tree.left) == LEAF
    ways = np.stack([tree.left, tree.right])
    onward = ((ways > np.arange(size)) & (ways < size)).all(axis=0)
    asks = (np.array(tree.feature) >= 0) & (np.array(tree.feature) < features)
    return bool((leaf | (onward & asks)).all())
