# SPDX-License-Identifier: Apache-2.0

"""What one process has moved for several lies elsewhere for all of them, whatever rows they have it in."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.model import Ending, Plan
from numad_py.roles import Policy
from numad_py.sim.cost import default_prices
from numad_py.sim.moving import Flow
from numad_py.sim.replay import replay
from numad_py.sim.sharing import followed
from tests.builders import GIB, HEAP, TWO_NODES, move, node_memory, process, regions, tick

PAGES = 2560
PRICES = default_prices(TWO_NODES)
FAR = 1 << 40


def shared(*rows, start=HEAP, offsets=(), backing=5):
    held = regions(*rows, start=start, gap_bytes=0, mapmax=2, backing=backing)
    return replace(held, offset=np.array(offsets)) if offsets else held


def flow(*rows):
    """Let so many pages of each row go from node 0 to node 1."""
    pages = np.array(rows)
    return Flow(np.column_stack([pages, 0 * pages]), np.column_stack([0 * pages, pages]))


@pytest.mark.parametrize(
    ("its", "mover", "moves", "then"),
    [
        (shared({0: 100}, start=FAR), shared({0: 100}), [60], [[40, 60]]),
        (shared({0: 100}), shared({0: 50}, {0: 50}), [50, 0], [[50, 50]]),
        (shared({0: 50}, {0: 50}), shared({0: 100}), [40], [[30, 20], [30, 20]]),
        (shared({0: 50}, {0: 50}), shared({0: 50}, {0: 50}), [0, 50], [[50, 0], [0, 50]]),
        (shared({0: 50}, offsets=[50 * 4096]), shared({0: 50}, {0: 50}), [50, 0], [[50, 0]]),
        (shared({0: 100}, backing=6), shared({0: 100}), [60], [[100, 0]]),
        (shared({0: 100}, backing=0), shared({0: 100}), [60], [[100, 0]]),
        (shared({1: 100}), shared({0: 100}), [60], [[0, 100]]),
    ],
    ids=["elsewhere", "whole", "in two", "alike", "another part", "another", "its own", "not there"],
)
def test_another_process_follows_where_it_maps_the_same(its, mover, moves, then):
    assert followed(its, mover, flow(*moves)).tolist() == then


class Brings(Policy):
    """Wishes what the first process has to node 1, for all of its job or for itself alone."""

    def __init__(self, *, for_all):
        self.for_all = for_all

    def decide(self, snapshot):
        among = tuple(each.key for each in snapshot.processes) if self.for_all else ()
        return Plan((replace(move(snapshot.processes[0]), among=among),))


@pytest.mark.parametrize("for_all", [True, False])
def test_a_machine_moves_what_is_shared_for_all_or_refuses_it(for_all):
    processes = [process(pid, regions=shared({0: PAGES})) for pid in (1000, 1001)]
    memory = node_memory(anon={0: GIB // 4, 1: GIB // 4})
    recorded = [tick(time_s=100.0 + second, processes=processes, memory=memory) for second in range(2)]

    before, after = (turn["it"] for turn in replay(recorded, {"it": Brings(for_all=for_all)}, PRICES))

    (outcome,), moved = before.outcomes, PAGES * for_all
    assert (outcome.ending, outcome.failed) == (Ending.DONE, {} if for_all else {"EACCES": PAGES})
    seen = [each.regions.pages.tolist() for each in after.snapshot.processes]
    assert seen == [[[PAGES - moved, moved]]] * 2
    freed = after.snapshot.memory.free_bytes - before.snapshot.memory.free_bytes
    assert freed.tolist() == [moved * 4096, -moved * 4096]
    anonymous = after.snapshot.memory.anon_bytes - before.snapshot.memory.anon_bytes
    assert anonymous.tolist() == (-freed).tolist()
