# SPDX-License-Identifier: Apache-2.0

"""The best that binding once could have done: each process gets the one binding that suits its whole life.

Problem: who knows a job can bind it at its start; what remains for a daemon is what that cannot do.

Primitive: a first pass over the trace adds up of each process where it ran and what it held (`lives`). With that the
cost model says what its life costs as it is, bound to one node with its memory, or with its memory interleaved.

Application: processes choose one after the other, the most to gain first, as long as no node is asked for more cores
or memory than it has, in any part of the trace: once beside those that have not chosen yet, and once as if these were
not there, for two that would have to change places. Of both outcomes, and of binding nobody, the cheapest is taken.
Each process is bound at its first look, pays for the move, and is never looked at again.

Nothing says that there is no better one. For its price each process is taken to be alone on the machine, but for its
cores, and to use all of its memory evenly. What grows later goes where first touch puts it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from numad_py.model import MovePages, MoveTasks, Plan, Process, ProcessKey, Reason, Snapshot, Tick
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.baselines.lives import SPANS, Life, Lives, may_move
from numad_py.sim.cost import Prices
from numad_py.sim.work import sharing
from numad_py.topology import Bools, Floats, Topology


@dataclass(frozen=True, eq=False)
class _Binding:
    """A way to bind a process, by node: a single one has its threads, too; none is no binding. And what life costs."""

    nodes: Bools
    cost_ns: float


class BestStaticBinding(Baseline):
    """Binds each process at its first look, knowing what it will do."""

    def __init__(self, prices: Prices, foreseen: Iterable[Tick]) -> None:
        lives = Lives(foreseen, prices)
        self._chosen = {} if lives.topology is None else _choose(lives, lives.topology, prices)

    def decide(self, snapshot: Snapshot) -> Plan:
        moves, tasks = [], []
        for process in snapshot.processes:
            nodes = self._chosen.pop(process.key, None) if len(process.regions) else None
            if nodes is None:
                continue
            moves.append(_bring(process, nodes, snapshot.topology))
            if nodes.sum() == 1:
                node = snapshot.topology.nodes[int(nodes.argmax())].id
                tasks.append(MoveTasks(process.key, (node,), Reason.TASKS_FOLLOW_MEMORY))
        return Plan(tuple(move for move in moves if move.limit_bytes), task_moves=tuple(tasks))


def _choose(lives: Lives, on: Topology, prices: Prices) -> dict[ProcessKey, Bools]:
    """Give the nodes of every process that is to be bound."""
    options = {key: list(_bindings(life, on, prices, SPANS * lives.span_s)) for key, life in lives.of.items()}
    nobody = {key: each[0] for key, each in options.items()}
    most_held = np.maximum(_demanded(nobody, lives, on)[1], lives.room_bytes * lives.span_s)
    plans = [_in_turn(lives, options, on, others_stay=stay) for stay in (True, False)]
    possible = [nobody, *(plan for plan in plans if (_demanded(plan, lives, on)[1] <= most_held).all())]
    best = min(possible, key=lambda plan: _total_ns(plan, lives, on))
    return {key: binding.nodes for key, binding in best.items() if binding.nodes.any()}


def _in_turn(
    lives: Lives, options: dict[ProcessKey, list[_Binding]], on: Topology, *, others_stay: bool
) -> dict[ProcessKey, _Binding]:
    """Let one process after the other choose, beside the others as they are, or as if these were not there."""
    unbound = {key: _demand(lives.of[key], each[0].nodes) for key, each in options.items()}
    demand = sum(unbound.values(), np.zeros((2, SPANS, len(on.nodes)))) * others_stay
    capacity = np.stack([on.cores_by_node * lives.span_s, lives.room_bytes * lives.span_s])[:, None, :]
    gains = {key: each[0].cost_ns - min(one.cost_ns for one in each) for key, each in options.items()}
    chosen = {}
    for key in sorted(gains, key=lambda key: (-gains[key], key)):
        others = demand - unbound[key] if others_stay else demand
        for binding in sorted(options[key], key=lambda each: each.cost_ns):
            then = others + _demand(lives.of[key], binding.nodes)
            if not binding.nodes.any() or ((then <= capacity) | (then <= demand)).all():
                break
        demand, chosen[key] = then, binding
    return chosen


def _demanded(plan: dict[ProcessKey, _Binding], lives: Lives, on: Topology) -> Floats:
    """Add up what `_demand` gives."""
    none = np.zeros((2, SPANS, len(on.nodes)))
    return sum((_demand(life, plan[key].nodes) for key, life in lives.of.items()), none)


def _total_ns(plan: dict[ProcessKey, _Binding], lives: Lives, on: Topology) -> float:
    """Say what all lives cost together, with what threads take longer that share cores."""
    cpu_s = _demanded(plan, lives, on)[0]
    slower = np.stack([sharing(each[None], lives.span_s, on) for each in cpu_s])
    return sum(each.cost_ns for each in plan.values()) + float((cpu_s * (slower - 1)).sum()) * 1e9


def _bindings(life: Life, on: Topology, prices: Prices, length_s: float) -> Iterator[_Binding]:
    """Give all ways to bind a process, the first of which is none."""
    fit = np.isin(on.node_ids, life.nodes_allowed) & on.has_cpus
    fit &= np.array([bool(node.total_bytes) for node in on.nodes])
    single = [np.arange(len(fit)) == node for node in np.flatnonzero(fit)]
    for nodes in [np.zeros(len(fit), bool), *single, *([fit] if len(single) > 1 else [])]:
        yield _Binding(nodes, _waited_ns(life, nodes, prices, length_s) + _move_ns(life, nodes))


def _demand(life: Life, nodes: Bools) -> Floats:
    """Give CPU seconds, and bytes multiplied by seconds, of a process that is bound so: shape (2, spans, nodes)."""
    cpu_s = life.cpu_s.sum(axis=1, keepdims=True) * nodes if nodes.sum() == 1 else life.cpu_s
    return np.stack([cpu_s, life.held[:, None] * _share(life, nodes)])


def _share(life: Life, nodes: Bools) -> Floats:
    """Give by node the part of its memory that lies there."""
    weight = nodes if nodes.any() else life.first_bytes
    share: Floats = weight / max(float(weight.sum()), 1e-300)
    return share


def _waited_ns(life: Life, nodes: Bools, prices: Prices, length_s: float) -> float:
    cpu_s, share = _demand(life, nodes)[0].sum(axis=0), _share(life, nodes)
    latency_ns = prices.loaded_ns(cpu_s[None], np.tile(share, (1, len(share), 1)), length_s)
    waits = cpu_s * prices.accesses_per_cpu_s / prices.parallel_accesses  # one after the other
    return float(waits @ latency_ns @ share)


def _move_ns(life: Life, nodes: Bools) -> float:
    """Give what moving costs at first; of what is interleaved each node keeps its part."""
    if not nodes.any():
        return 0.0
    total = life.move_ns.sum()
    return float(np.maximum(life.move_ns - total * nodes / nodes.sum(), 0).sum())


def _bring(process: Process, nodes: Bools, on: Topology) -> MovePages:
    rows = process.regions.take(may_move(process.regions))
    targets = tuple(on.nodes[index].id for index in np.flatnonzero(nodes))
    sources = tuple(node.id for node in on.nodes if targets != (node.id,))
    elsewhere = rows.resident_bytes if len(targets) > 1 else rows.resident_bytes[:, ~nodes]
    return MovePages(
        process.key,
        rows.start,
        rows.end,
        rows.page_bytes,
        sources=sources,
        targets=targets,
        limit_bytes=int(elsewhere.sum()),
        reason=Reason.SPREAD if len(targets) > 1 else Reason.MEMORY_FOLLOWS_CPU,
    )
