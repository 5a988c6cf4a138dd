# SPDX-License-Identifier: Apache-2.0

"""How near the choice of moves comes to the exact solution, and what it takes: ``python bench/choosing.py [DRAWS]``.

Instances are drawn at random: candidates of several nodes, of which each leaves some, with little room and with much.
The exact solution is a linear program: no node ends with more than its room, and each candidate moves in part or in
whole. (No order of moves needs to exist that gets there: what it comes to is a bound.) It needs scipy, which is no part
of the environment: ``uv run --with scipy --with numpy --no-project bench/choosing.py``.
"""

import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import linprog

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py.policies.candidates import chosen

SHAPES = ((2, 8), (4, 40), (8, 200), (4, 1000))  # nodes, candidates
ROOM_SHARES = (0.0, 0.05, 0.5)  # of what wants to move to a node
MB = 1 << 20


def main(draws=20):
    """Print a row for each kind of instance."""
    print(
        f"{'nodes':>5} {'candidates':>10} {'room':>6} {'of the exact saving: mean':>26} {'worst':>8} {'ms':>6}"
    )
    for nodes, count in SHAPES:
        for room_share in ROOM_SHARES:
            found = [compared(np.random.default_rng(seed), nodes, count, room_share) for seed in range(draws)]
            share, took_s = np.array(found).T
            print(
                f"{nodes:5} {count:10} {room_share:6.0%} {share.mean():26.1%} {share.min():8.1%} {took_s.mean() * 1e3:6.1f}"
            )
    return 0


def compared(random, nodes, count, room_share):
    """Give what a choice saves of the exact solution's saving, and the seconds it took."""
    leaving, target, worth, room = drawn(random, nodes, count, room_share)
    begun_s = time.perf_counter()
    moved = chosen(leaving, target, worth, room)
    took_s = time.perf_counter() - begun_s
    best = exact(leaving, target, worth, room)
    return (float(worth @ moved) / best if best else 1.0), took_s


def drawn(random, nodes, count, room_share):
    """Draw an instance: who is on which node, who wants to go where, what a byte is worth, and room."""
    target = random.integers(nodes, size=count)
    source = (target + random.integers(1, nodes, size=count)) % nodes
    bytes_ = (1 + random.lognormal(6, 1.5, count)).astype(np.int64) * MB
    leaving = np.zeros((count, nodes), np.int64)
    leaving[np.arange(count), source] = bytes_
    wanted = np.bincount(target, bytes_, nodes)
    return leaving, target, random.lognormal(0, 1, count), (room_share * wanted).astype(np.int64)


def exact(leaving, target, worth, room):
    """Give the largest saving that room allows, however it is reached."""
    total = leaving.sum(axis=1)
    arriving = np.eye(leaving.shape[1])[target]
    used = (arriving - leaving / total[:, None]).T  # of a node's room by each candidate's byte
    found = linprog(-worth, A_ub=used, b_ub=room, bounds=np.column_stack([np.zeros_like(total), total]))
    return -float(found.fun)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
