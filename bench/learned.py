# SPDX-License-Identifier: Apache-2.0

"""How long the shipped model takes for a thousand candidates: ``python bench/learned.py [CANDIDATES]``."""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import profiles
from numad_py.policies.candidates import whole
from numad_py.policies.features import Histories
from tests.builders import process, snapshot

LIMIT_MS = 10.0
TURNS = 30


def main(count=1000):
    """Print the median of some turns, and give the exit status."""
    features_ms, model_ms = np.median([timed(count) for _ in range(TURNS)], axis=0)
    print(
        f"{count} candidates: features {features_ms:.1f} ms, model {model_ms:.1f} ms; {LIMIT_MS:.0f} ms were to be held"
    )
    return int(features_ms + model_ms > LIMIT_MS)


def timed(count):
    """Give the milliseconds that features and model take."""
    every = [process(pid, pages={0: 9000, 1: 1000}, cpu_s={1: 0.9}) for pid in range(1, count + 1)]
    seen, trees, histories = snapshot(processes=every), profiles.read_model("model.json"), Histories()
    home = np.ones(count, np.int64)
    offers, cores = whole(seen, home, seen.cpu_s), seen.cpu_s
    begun_s = time.perf_counter()
    histories.look(seen, home, cores)
    rows = histories.rows(offers, seen, cores)
    features_s = time.perf_counter()
    trees.predicted(np.clip(rows, trees.model.lower, trees.model.upper))
    return (features_s - begun_s) * 1e3, (time.perf_counter() - features_s) * 1e3


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
