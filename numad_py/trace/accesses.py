# SPDX-License-Identifier: Apache-2.0

"""Who touches what, as columns on a line of a trace."""

import numpy as np

from numad_py.model import Accesses, ThreadGroup
from numad_py.topology import Topology
from numad_py.trace import wire
from numad_py.trace.wire import Damage, column


def to_wire(accesses: Accesses) -> wire.Accesses:
    """Give what the line holds."""
    groups = [wire.ThreadGroup(each.node, each.tid.tolist(), each.cpu_s.tolist()) for each in accesses.groups]
    return wire.Accesses(
        source=accesses.source,
        groups=groups,
        start=accesses.start.tolist(),
        end=accesses.end.tolist(),
        counts=accesses.counts.T.tolist(),
        checks=accesses.checks,
        period_s=accesses.period_s,
    )


def of_wire(read: wire.Accesses, on: Topology) -> Accesses:
    """Give what the line holds; raises Damage for columns that do not fit each other, or the nodes."""
    if len(read.counts) != len(read.groups):
        raise Damage(f"counts of {len(read.counts)} groups where {len(read.groups)} belong")
    for each in read.groups:
        if each.node not in (None, *on.node_ids):
            raise Damage(f"threads that ran on node {each.node}, which the machine does not have")
    length = len(read.start)
    counts = [column(each, np.int64, length, "counts") for each in read.counts]
    return Accesses(
        source=read.source,
        groups=tuple(
            ThreadGroup(
                each.node,
                column(each.tid, np.int64, len(each.tid), "tid"),
                column(each.cpu_s, np.float64, len(on.nodes), "cpu_s"),
            )
            for each in read.groups
        ),
        start=column(read.start, np.uint64, length, "start"),
        end=column(read.end, np.uint64, length, "end"),
        counts=np.array(counts, np.int64).reshape(len(counts), length).T,
        checks=read.checks,
        period_s=read.period_s,
    )
