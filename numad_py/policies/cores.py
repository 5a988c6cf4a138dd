# SPDX-License-Identifier: Apache-2.0

"""How many threads want a CPU of each node, and which processes fit where: whole cores count, their siblings do not.

Problem: threads that are brought to their memory must not share cores there, which costs more than distance does.
Primitive: a thread wants a core if it ran a tenth of the time; of one that hardly ran, what it ran counts.
Application: all go at once, so that jobs may change places; then those that save least stay where they are, until no
node that somebody comes to has more threads than its share of cores. What one job has beyond half of a place's cores
is spread evenly over the places that suit. A place is a node, or the nodes of a package.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from numad_py.model import Snapshot
from numad_py.topology import Bools, Floats, Ints, Topology

Place = tuple[int, ...]  # positions of nodes

RUNNING_SHARE: Final = 0.1  # of the time, from which on a thread wants a core
CROWDED_SHARE: Final = 0.5  # of a node's cores, beyond which one job is spread evenly
_HARDLY: Final = 0.5  # of a core, that all who hardly run may take beside those who do


class Wanting(NamedTuple):
    """A process by its row, the places that suit it, best first, and what it would save there."""

    row: int
    places: tuple[Place, ...]
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


def evenly(threads: float, place: Place, on: Topology) -> Floats:
    """Give by node how many of some threads run there, once they are bound to a place."""
    cores = on.cores_by_node * np.isin(np.arange(len(on.nodes)), place)
    shares: Floats = threads * cores / cores.sum()
    return shares


def placed(
    wanting: Sequence[Wanting], crowd: Crowd, on: Topology, fill_cores_share: float
) -> dict[int, Place]:
    """Give by row the place where it goes, of those that can go."""
    others = np.ones(len(crowd.load), bool)
    others[[each.row for each in wanting]] = False
    over = crowd.load[others].sum(axis=0) - limits(on, fill_cores_share)
    goes = _all_at_once(wanting, crowd, others, over, on)
    over += crowd.load[[each.row for each in wanting if each.row not in goes]].sum(axis=0)
    while too_full := [row for row, place in goes.items() if over[list(place)].sum() > _HARDLY]:
        row = too_full[-1]
        over += crowd.load[row] - evenly(crowd.threads[row], goes.pop(row), on)
    return goes


def _all_at_once(
    wanting: Sequence[Wanting], crowd: Crowd, others: Bools, over: Floats, on: Topology
) -> dict[int, Place]:
    """Let go who would fit if all of them went, who saves most before others, and count them in ``over``.

    That is by node how many threads there are above what may come; within a package the scheduler evens it out.
    """
    cores, of_job = on.cores_by_node, np.bincount(crowd.job, crowd.threads)
    own = np.zeros((len(of_job), len(cores)))
    np.add.at(own, crowd.job[others], crowd.load[others])
    goes: dict[int, Place] = {}
    for row, places, _ in sorted(wanting, key=lambda each: (-each.saving_ns_per_s, each.row)):
        mine, threads = own[crowd.job[row]], crowd.threads[row]
        fair = of_job[crowd.job[row]] * cores / sum(cores[list(place)].sum() for place in places)
        for place in places:
            at = list(place)
            few = mine[at].sum() + threads <= CROWDED_SHARE * cores[at].sum() + _HARDLY
            fits = over[at].sum() + threads <= _HARDLY
            if fits and (few or mine[at].sum() < fair[at].sum() or len(places) == 1):
                goes[row] = place
                coming = evenly(threads, place, on)
                over += coming
                mine += coming
                break
    return goes
