# SPDX-License-Identifier: Apache-2.0

"""Which cases are scored together, written down before anything is trained.

Problem: what is scored on what it was trained on scores well.
Primitive: families of workloads, and machines, are dealt into folds. What a fold scores is of its families on its
machines; it trains on neither: all draws, sizes and times of a family, and all costs of a machine, are on one side.
Application: the file has the hash of each case; a case that is not as it was then, or not in it, is refused, and so
is a machine that is not in it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from numad_py.learn import CannotTrain, draws
from numad_py.learn.draws import Case
from numad_py.topology import Ints

FOLDS: Final = 4
Names = NDArray[np.str_]


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fold of each family and machine by name, and the hash of each case."""

    families: dict[str, int]
    machines: dict[str, int]
    sha256: dict[str, str]


def made(cases: Sequence[Case]) -> Split:
    """Deal families and machines in the order of their hashes, which nobody chooses."""
    return Split(
        _dealt({case.family for case in cases}),
        _dealt(set(draws.all_machines())),
        {case.name: draws.sha256(case) for case in cases},
    )


def _dealt(names: set[str]) -> dict[str, int]:
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: ordered.index(name) % FOLDS for name in sorted(names)}


def write(split: Split, path: Path) -> None:
    """Write a file that a reader can compare."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(split), indent=1) + b"\n")


def read(path: Path) -> Split:
    """Read it; raise CannotTrain, which says what is wrong."""
    if not path.exists():
        raise CannotTrain(f"{path}: there is no split yet: write it with --write-split, and commit it first")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Split)
    except msgspec.DecodeError as error:
        raise CannotTrain(f"{path}: is no split: {error}") from None


def check(split: Split, cases: Sequence[Case], path: Path) -> None:
    """Raise CannotTrain for a machine that is new, or a case that is, has changed, or is another one's twin in another fold."""
    if new := {*draws.all_machines()} - split.machines.keys():
        raise CannotTrain(
            f"{path}: the machine {min(new)} is not in it, and cases may be priced on it: write the split anew, and commit it"
        )
    folds: dict[str, tuple[str, int]] = {}
    for case in cases:
        found = draws.sha256(case)
        if split.sha256.get(case.name) != found or case.family not in split.families:
            raise CannotTrain(
                f"{path}: {case.name} is not in it as it is now: write the split anew, and commit it"
            )
        fold = split.families[case.family]
        name, others = folds.setdefault(found, (case.name, fold))
        if others != fold:
            raise CannotTrain(
                f"{path}: {name} and {case.name} are the same, and in folds {others} and {fold}"
            )


def sides(split: Split, families: Names, machines: Names, fold: int) -> tuple[Ints, Ints]:
    """Give the rows to train on and those to score: neither their families nor their machines overlap."""
    family = np.array([split.families[name] for name in families.tolist()])
    machine = np.array([split.machines[name] for name in machines.tolist()])
    train, test = np.flatnonzero((family != fold) & (machine != fold)), (family == fold) & (machine == fold)
    refuse_overlap(families, machines, train, np.flatnonzero(test))
    return train, np.flatnonzero(test)


def refuse_overlap(families: Names, machines: Names, train: Ints, test: Ints) -> None:
    """Raise CannotTrain where a family or a machine is on both sides."""
    for what, names in (("family", families), ("machine", machines)):
        both = sorted({*names[train].tolist()} & {*names[test].tolist()})
        if both:
            raise CannotTrain(f"the {what} {both[0]} is on both sides: what is scored there was trained on")
