# SPDX-License-Identifier: Apache-2.0

"""Which nodes numad chooses for a process.

Facts are from numad.c 20150602 as Debian packages it (0.5+20150602-8), pick_numa_nodes() where no other function is
named. All divisions round down, as there.

Units: MB = 2^20 bytes, hundredths of a CPU; lists are by node.
"""

import math
from dataclasses import dataclass
from typing import Final

TARGET_UTILIZATION: Final = 85  # percent
MARGIN_MB: Final = 100


@dataclass(frozen=True)
class Nodes:
    """What the nodes have, and what of it is free."""

    total_mb: tuple[int, ...]
    free_mb: tuple[int, ...]
    total_cpus: tuple[int, ...]
    free_cpus: tuple[int, ...]
    distances: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.total_mb)


@dataclass(frozen=True)
class Placed:
    """What a process uses, where its memory is, and the nodes that it is on: all, for one that was never bound."""

    used_mb: int
    used_cpus: int
    mb: tuple[int, ...]
    nodes: frozenset[int]


def pick(nodes: Nodes, placed: Placed, cpus: int, mb: int, *, enough_cpus: bool) -> frozenset[int]:
    """Give the nodes that are to hold a process which asks for so much."""
    free_mb, free_cpus, every_free = _with_its_own(nodes, placed)
    enough_cpus = enough_cpus or cpus > every_free
    flex = (100 - TARGET_UTILIZATION) * nodes.total_cpus[0] // 200
    by_memory = math.ceil(mb / max(nodes.total_mb[0], 1))
    by_cpus = math.ceil((cpus - flex) / max(nodes.total_cpus[0], 1))
    least = min(max(by_memory, by_cpus), len(nodes))
    worth = [_worth(cpus, mb, *free) for free in zip(free_cpus, free_mb, strict=True)]
    order = _by_distance(_best(nodes, worth, least), nodes, worth)
    chosen: set[int] = set()
    while least > 0 or mb > 0 or (cpus > flex and not enough_cpus):
        node = order[len(chosen)]
        chosen.add(node)
        least -= 1
        if len(chosen) == len(nodes):
            break
        mb = 0 if free_mb[node] >= mb + MARGIN_MB else mb - (free_mb[node] - MARGIN_MB)
        cpus = max(cpus - free_cpus[node], 0)
    return frozenset(chosen)


def _with_its_own(nodes: Nodes, placed: Placed) -> tuple[list[int], list[int], int]:
    """Give what would be free by node without the process, in favour of where its memory is, and the sum of CPUs.

    One that was bound weighs its memory more, and is taken to have the same part of each of its nodes.
    """
    if len(placed.nodes) == len(nodes):
        mb = [free + own * 17 // 16 for free, own in zip(nodes.free_mb, placed.mb, strict=True)]
        cpus = [
            free + placed.used_cpus * own // placed.used_mb
            for free, own in zip(nodes.free_cpus, placed.mb, strict=True)
        ]
    else:
        mb = [free + own * 5 // 4 for free, own in zip(nodes.free_mb, placed.mb, strict=True)]
        mean = (placed.used_cpus + sum(nodes.free_cpus[node] for node in placed.nodes)) // len(placed.nodes)
        cpus = [mean if node in placed.nodes else free for node, free in enumerate(nodes.free_cpus)]
    capped_mb = [min(free, total) for free, total in zip(mb, nodes.total_mb, strict=True)]
    capped_cpus = [max(min(free, total), 1) for free, total in zip(cpus, nodes.total_cpus, strict=True)]
    return capped_mb, capped_cpus, sum(cpus)


def _worth(cpus: int, mb: int, free_cpus: int, free_mb: int) -> int:
    """Weigh what a node has, by combined_value_of_weighted_resources(): needed memory over needed CPUs over the rest."""
    memory = 10 * min(free_mb, mb) + 4 * max(free_mb - mb, 0)
    return memory * (6 * min(free_cpus, cpus) + max(free_cpus - cpus, 0))


def _by_distance(near: int, nodes: Nodes, worth: list[int]) -> list[int]:
    return sorted(range(len(nodes)), key=lambda node: (nodes.distances[node][near], -worth[node], node))


def _best(nodes: Nodes, worth: list[int], least: int) -> int:
    """Give the node from which the needed number of nodes is worth most, each divided by its distance squared."""

    def from_there(node: int) -> int:
        nearest = _by_distance(node, nodes, worth)[: max(least, 0)]
        return sum(worth[other] // nodes.distances[other][node] ** 2 for other in nearest)

    return max(range(len(nodes)), key=lambda node: (from_there(node), -node))
