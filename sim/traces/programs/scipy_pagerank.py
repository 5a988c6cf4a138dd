# SPDX-License-Identifier: Apache-2.0

"""SciPy: PageRank of a graph in CSR, each of two threads with half of the rows; again and again."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from scipy import sparse

PAGES, LINKS = 400_000, 8_000_000
DAMPING = 0.85
PRECISION = 1e-9
THREADS = 2

print("imported", flush=True)


def made(rng):
    """Link pages at random, to few of them most often; give the matrix whose columns sum up to 1."""
    source = rng.integers(PAGES, size=LINKS, dtype=np.int32)
    target = (PAGES * rng.random(LINKS) ** 4).astype(np.int32)
    weight = 1 / np.bincount(source, minlength=PAGES)[source]
    return sparse.csr_array((weight, (target, source)), shape=(PAGES, PAGES))


def ranks(parts, pool):
    """Iterate until nothing changes."""
    rank, before = np.full(PAGES, 1 / PAGES), np.zeros(PAGES)
    while np.abs(rank - before).sum() > PRECISION:
        passed = np.concatenate(list(pool.map(lambda part: part @ rank, parts)))  # noqa: B023 - done in this turn
        before, rank = rank, DAMPING * passed + (1 - DAMPING * passed.sum()) / PAGES
    return rank


def main():
    """Build on the node that this was started on; then work for ever."""
    links = made(np.random.default_rng(1))
    edges = np.searchsorted(links.indptr, np.linspace(0, links.nnz, THREADS + 1))
    edges[-1] = PAGES
    parts = [links[start:end] for start, end in pairwise(edges)]
    del links
    print("built", flush=True)
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            ranks(parts, pool)


main()
