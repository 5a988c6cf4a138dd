# SPDX-License-Identifier: Apache-2.0

"""How many threads want a CPU of each node, and which processes fit where: whole cores count, their siblings do not.

Problem: threads that are brought to their memory must not share cores there, which costs more than distance does.
Primitive: a thread wants a core if it ran a tenth of the time; of one that hardly ran, what it ran counts.
Application: all go at once, so that jobs may change places; then those that save least stay where they are, until no
node that somebody comes to has more threads than its share of cores. What one job has beyond half of a node's cores
is spread evenly over the nodes that suit.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from numad_py.model import Snapshot
from numad_py.topology import Bools, Floats, Ints, Topology

RUNNING_SHARE: Final = 0.1  # of the time, from which on a thread wants a core
CROWDED_SHARE: Final = 0.5  # of a node's cores, beyond which one job is spread evenly
_HARDLY: Final = 0.5  # of a core, that all who hardly run may take beside those who do


class Wanting(NamedTuple):
    """A process by its row, the nodes that suit it, best first, and what it would save there."""

    row: int
    nodes: tuple[int, ...]
    saving_ns_per_s: float


class Crowd(NamedTuple):
    """Columns by process: how many cores it wants at the most, and by node; and whose it is."""

    threads: Floats
    load: Floats
    job: Ints


def runnable(snapshot: Snapshot, period_s: Floats) -> Floats:
    """Give, by process and node, how many threads want a core."""
    row, cpu, cpu_s = snapshot.threads
    share = cpu_s / period_s[row]
    return snapshot.by_node(row, cpu, np.where(share >= RUNNING_SHARE, 1.0, share))


def limits(on: Topology, fill_cores_share: float) -> Ints:
    """Give by node how many threads may be brought there, whoever is there already included."""
    whole: Ints = np.floor(on.cores_by_node * fill_cores_share + 1e-9).astype(np.int64)
    return whole


def placed(wanting: Sequence[Wanting], crowd: Crowd, on: Topology, fill_cores_share: float) -> dict[int, int]:
    """Give by row the node where it goes, of those that can go."""
    others = np.ones(len(crowd.load), bool)
    others[[each.row for each in wanting]] = False
    most = limits(on, fill_cores_share).astype(np.float64) + _HARDLY
    total = crowd.load[others].sum(axis=0)
    goes = _all_at_once(wanting, crowd, others, total, most, on)
    total += crowd.load[[each.row for each in wanting if each.row not in goes]].sum(axis=0)
    while too_full := [row for row, node in goes.items() if total[node] > most[node]]:
        row = too_full[-1]
        total[goes.pop(row)] -= crowd.threads[row]
        total += crowd.load[row]
    return goes


def _all_at_once(
    wanting: Sequence[Wanting], crowd: Crowd, others: Bools, total: Floats, most: Floats, on: Topology
) -> dict[int, int]:
    """Let go who would fit if all of them went, who saves most before others, and count them in ``total``."""
    cores, of_job = on.cores_by_node, np.bincount(crowd.job, crowd.threads)
    own = np.zeros((len(of_job), len(cores)))
    np.add.at(own, crowd.job[others], crowd.load[others])
    goes: dict[int, int] = {}
    for row, nodes, _ in sorted(wanting, key=lambda each: (-each.saving_ns_per_s, each.row)):
        mine, threads = own[crowd.job[row]], crowd.threads[row]
        fair = of_job[crowd.job[row]] * cores / cores[list(nodes)].sum()
        few = mine + threads <= CROWDED_SHARE * cores + _HARDLY
        may = (total + threads <= most) & (few | (mine < fair) | (len(nodes) == 1))
        node = next((node for node in nodes if may[node]), None)
        if node is not None:
            goes[row] = node
            total[node] += threads
            mine[node] += threads
    return goes
