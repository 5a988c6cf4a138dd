# SPDX-License-Identifier: Apache-2.0

"""Nothing that was ever thrown at it kills the daemon again, nor do its neighbours. ``make fuzz`` throws more."""

import random

import pytest
from structlog.testing import capture_logs

from tests.fuzz import targets
from tests.fuzz.mutations import mutated

NEIGHBOURS = 60
KEPT = [(name, path) for name in targets.NAMES for path in sorted((targets.CORPUS / name).iterdir())]


@pytest.fixture(autouse=True)
def _quiet():
    with capture_logs():
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return targets.Targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}-{path.name}" for name, path in KEPT])
def test_what_is_kept_is_read_or_refused(opened, name, path):
    getattr(opened, name)(path.read_bytes())


@pytest.mark.parametrize("name", targets.NAMES)
def test_what_is_nearly_what_is_kept_is_read_or_refused(opened, name):
    dice, inputs = random.Random(1), targets.corpus(name)

    for _ in range(NEIGHBOURS):
        getattr(opened, name)(mutated(dice.choice(inputs), inputs, dice))
