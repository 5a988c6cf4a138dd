# SPDX-License-Identifier: Apache-2.0

"""NumPy: project samples that lie in a file, block by block, and rank the result; round and round.

The file is made by the script, in the folder for temporary files; the result is an array in memory.
"""

import tempfile
from pathlib import Path

import numpy as np

SAMPLES, FEATURES, COMPONENTS = 48_000, 512, 256
BLOCK = 2_000

print("imported", flush=True)


def blocks():
    """Give the rows of a block at a time."""
    return (slice(start, start + BLOCK) for start in range(0, SAMPLES, BLOCK))


def made(path, rng):
    """Write samples to a file, and map it."""
    samples = np.memmap(path, np.float32, "w+", shape=(SAMPLES, FEATURES))
    for rows in blocks():
        samples[rows] = rng.standard_normal((BLOCK, FEATURES), np.float32)
    return samples


def main():
    """Build on the node that this was started on; then work for ever."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = made(Path(folder) / "samples", rng)
        axes = rng.standard_normal((FEATURES, COMPONENTS), np.float32)
        projected = np.zeros((SAMPLES, COMPONENTS), np.float32)
        ranks = np.zeros((SAMPLES, COMPONENTS), np.int32)
        print("built", flush=True)
        while True:
            for rows in blocks():
                projected[rows] = samples[rows] @ axes
            for component in range(0, COMPONENTS, 16):
                ranks[:, component] = projected[:, component].argsort()


main()
