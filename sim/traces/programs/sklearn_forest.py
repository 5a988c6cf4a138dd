# SPDX-License-Identifier: Apache-2.0

"""scikit-learn: grow a random forest with two threads, and ask it about every sample; round and round."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier

SAMPLES, FEATURES = 800_000, 32
PART = 20_000

print("imported", flush=True)


def made(rng):
    """Make samples of two classes that a tree can tell apart."""
    samples = rng.standard_normal((SAMPLES, FEATURES), np.float32)
    return samples, samples[:, 0] * samples[:, 1] + samples[:, 2] > 0


def main():
    """Build on the node that this was started on; then work for ever."""
    samples, classes = made(np.random.default_rng(1))
    print("built", flush=True)
    while True:
        forest = RandomForestClassifier(8, max_depth=12, max_samples=PART, n_jobs=2)
        forest.fit(samples, classes)
        for start in range(0, SAMPLES, PART):
            forest.predict_proba(samples[start : start + PART])


main()
