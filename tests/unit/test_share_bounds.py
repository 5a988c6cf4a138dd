# SPDX-License-Identifier: Apache-2.0

"""A share that is said with 95 % confidence is right at least that often, however few the samples."""

from math import lgamma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Accesses, AccessSource

CONFIDENCE = 0.95
SHARES = np.linspace(0.0, 1.0, 1001)


def bounds(counts):
    """Give the bounds of every region and group."""
    counts = np.array(counts, np.int64)
    edges = np.arange(len(counts) + 1, dtype=np.uint64)
    return Accesses(AccessSource.PEBS, (), edges[:-1], edges[1:], counts, None, 10.0).share_bounds()


def probabilities(samples):
    """Give how probable each count is (columns) under each true share (rows), exactly."""
    seen = np.arange(samples + 1)
    ways = [lgamma(samples + 1) - lgamma(n + 1) - lgamma(samples - n + 1) for n in range(samples + 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(seen == 0, 0.0, seen * np.log(SHARES)[:, None])
        missed = np.where(seen == samples, 0.0, (samples - seen) * np.log1p(-SHARES)[:, None])
    return np.exp(np.array(ways) + hit + missed)


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 8, 11, 20, 43, 100, 300, 1000])
def test_the_stated_confidence_is_kept_for_every_true_share(samples):
    low, high = bounds([[seen, samples - seen] for seen in range(samples + 1)])

    right = (low[:, 0] <= SHARES[:, None]) & (SHARES[:, None] <= high[:, 0])
    coverage = (probabilities(samples) * right).sum(axis=1)

    assert coverage.min() >= CONFIDENCE


def test_simulated_regions_are_what_they_are_said_to_be():
    random = np.random.default_rng(7)
    true = random.uniform(size=20_000)
    samples = random.integers(1, 200, size=20_000)
    seen = random.binomial(samples, true)

    low, high = bounds(np.stack([seen, samples - seen], axis=1))

    assert np.mean((low[:, 0] <= true) & (true <= high[:, 0])) >= CONFIDENCE


def test_forty_three_samples_tell_a_majority_of_two_thirds():
    low, _ = bounds([[29, 14], [8, 3]])

    assert low[0, 0] > 0.5
    assert low[1, 0] < 0.5


def test_bounds_do_not_waste_samples():
    low, high = bounds([[500, 500]])

    assert high[0, 0] - low[0, 0] < 0.07


@given(st.lists(st.lists(st.integers(0, 10_000), min_size=3, max_size=3), min_size=1, max_size=20))
def test_bounds_hold_the_share_and_stay_within_0_and_1(counts):
    low, high = bounds(counts)

    total = np.array(counts).sum(axis=1, keepdims=True)
    share = np.array(counts) / np.maximum(total, 1)
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert ((low <= share) & (share <= high)).all()
    assert (low[total[:, 0] == 0] == 0).all()
    assert (high[total[:, 0] == 0] == 1).all()
