# SPDX-License-Identifier: Apache-2.0

"""Memory of our own on one node, and the order in which a chase visits its lines.

Problem: caches, prefetchers and page tables answer for memory where they can.
Primitive: every line holds the index of the next, in one random cycle through all of them, far more of them than
any cache holds, in huge pages where the kernel has some.
Application: the idle and the loaded latency; bandwidth is measured on memory of the same kind, without the order.
"""

import mmap
import os
from dataclasses import dataclass

import numpy as np

from numad_py.calibrate.loops import LINE_WORDS, Words
from numad_py.kernel import hugepages, mempolicy, smaps_rollup


@dataclass(frozen=True, eq=False)
class NodeWords:
    """One node's memory: ``chain`` is linked for chases, ``stream`` is for bandwidth.

    ``huge_share`` is the part of both that lies in huge pages.
    """

    chain: Words
    stream: Words
    huge_share: float


def on_node(node: int, *, chain_bytes: int, stream_bytes: int, bound: bool) -> NodeWords:
    """Take memory of a node and link its chain; ``bound`` is False where there is but one node to be on.

    Raises OSError where the kernel refuses the node.
    """
    huge_before = smaps_rollup.read_huge_bytes(os.getpid())
    chain, stream = (_touched(node, size, bound=bound) for size in (chain_bytes, stream_bytes))
    huge = smaps_rollup.read_huge_bytes(os.getpid()) - huge_before
    link(chain, np.random.default_rng(node))
    return NodeWords(chain, stream, min(1.0, max(0, huge) / (chain.nbytes + stream.nbytes)))


def link(words: Words, random: np.random.Generator) -> None:
    """Make of the lines one cycle in random order."""
    lines = words[::LINE_WORDS]
    order = np.arange(lines.size, dtype=np.uint32)  # enough for chains of 256 GB
    random.shuffle(order)
    lines[order] = np.roll(order, -1)
    lines *= LINE_WORDS


def _touched(node: int, size_bytes: int, *, bound: bool) -> Words:
    memory = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    words = np.frombuffer(memory, np.uint64)
    if bound:
        mempolicy.bind(words.ctypes.data, size_bytes, node)
    if hugepages.pmd_bytes():
        memory.madvise(mmap.MADV_HUGEPAGE)
    words.fill(0)
    return words
