# SPDX-License-Identifier: Apache-2.0

"""What a model is trained on: scenarios and traces, played on machines whose costs are drawn around those that are known.

Problem: a model that is trained on the cost formula learns the formula.
Primitive: a case is one scenario, all of its sizes and times drawn anew, or one trace. Each is priced on several
machines, with latencies, prices of moving, and the part of time that waits for memory drawn around them.
Application: the same names give the same draws. Scores are of costs that are 30 % off on top.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import numpy as np

from numad_py import trace
from numad_py.learn import CannotTrain, made
from numad_py.model import Tick
from numad_py.sim import cost, results, scenario, script, shipped
from numad_py.sim.cost import Prices
from numad_py.topology import Topology

PUBLISHED: Final = "published"  # the machine that is taken where nobody measured one
NOT_SOCKETS: Final = ("grace-hopper",)  # whose second node has no CPUs
MACHINES_EACH: Final = 3  # that a case is priced on
LONGEST_S: Final = 150.0
OFF: Final = 0.3  # costs of what is scored
_FORMAT: Final = re.compile(r"\.(jsonl(\.gz|\.zst)?|yaml)$")


@dataclass(frozen=True)
class Case:
    """One scenario's file as it is drawn for the ``draw``-th time, or one trace, or a job of a kind that is `made` up."""

    path: Path
    draw: int

    @property
    def family(self) -> str:
        """What all draws of a scenario are of."""
        return self.path.name.partition(".")[0]

    @property
    def name(self) -> str:
        """Tell it from all others."""
        return f"{self.path.parent.name}/{_FORMAT.sub('', self.path.name)}/{self.draw}"

    @property
    def is_made(self) -> bool:
        return self.path.parent == Path(made.FOLDER)

    @property
    def is_trace(self) -> bool:
        return not self.is_made and self.path.suffix != ".yaml"


def cases(scenarios: Sequence[Path], traces: Sequence[Path], draws: int, made_each: int) -> list[Case]:
    """Give all cases: so many draws of each scenario, so many jobs of each kind; a trace is one.

    Raises CannotTrain where two would have one name.
    """
    kinds = [Path(made.FOLDER, kind) for kind in made.KINDS]
    drawn = [*((path, draws) for path in scenarios), *((kind, made_each) for kind in kinds)]
    found = [
        *(Case(path, draw) for path, often in drawn for draw in range(often)),
        *(Case(path, 0) for path in traces),
    ]
    by_name: dict[str, Path] = {}
    for case in found:
        if case.name in by_name:
            raise CannotTrain(
                f"{by_name[case.name]} and {case.path} are both called {case.name}: rename one, or leave it out"
            )
        by_name[case.name] = case.path
    return found


def sha256(case: Case) -> str:
    """Give the hash of what is played, its figures to nine digits: the last bits of a logarithm are each CPU's own."""
    if case.is_trace:
        return results.sha256_of(trace.files_of(case.path))
    return hashlib.sha256(msgspec.json.encode(_rounded(asdict(drawn(case))))).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


def begun(case: Case) -> tuple[trace.Header, Iterable[Tick]]:
    """Give a case's header and its ticks."""
    if case.is_trace:
        return trace.read(case.path)
    written = drawn(case)
    return written.header(case.family), scenario.ticks(written)


def drawn(case: Case) -> script.Scenario:
    """Draw a scenario's times, sizes and cores anew; what is held is refused when it is read."""
    random = Random(case.name)  # noqa: S311 - a draw, not a secret
    if case.is_made:
        return made.scenario(case.family, random)
    written = script.read(case.path)
    slower, larger, fewer = (
        float(np.exp(random.uniform(*np.log(between)))) for between in ((0.4, 2.5), (0.25, 2.0), (0.4, 1.0))
    )
    machine = replace(
        written.machine,
        memory_mb=tuple(max(round(mb * larger), 2048) for mb in written.machine.memory_mb),
        file_mb=tuple(round(mb * larger) for mb in written.machine.file_mb),
    )
    jobs = tuple(
        replace(job, groups=tuple(_group(group, slower, larger, fewer) for group in job.groups))
        for job in written.jobs
    )
    length_s = min(written.length_s * max(slower, 1.0), LONGEST_S)
    return replace(
        written, machine=machine, jobs=jobs, length_s=length_s, seed=written.seed + case.draw, every_s=1.0
    )


def _group(group: script.Group, slower: float, larger: float, fewer: float) -> script.Group:
    return replace(
        group,
        run=tuple(
            replace(phase, at_s=phase.at_s * slower, cores=tuple(each * fewer for each in phase.cores))
            for phase in group.run
        ),
        memory=tuple(_memory(memory, slower, larger) for memory in group.memory),
        apart_s=group.apart_s * slower,
        lives_s=None if group.lives_s is None else group.lives_s * slower,
        repeat_s=None if group.repeat_s is None else group.repeat_s * slower,
        investigated_s=None if group.investigated_s is None else group.investigated_s * slower,
    )


def _memory(memory: script.Memory, slower: float, larger: float) -> script.Memory:
    grows = (
        replace(
            each,
            at_s=each.at_s * slower,
            until_s=each.until_s * slower,
            mb_per_s=each.mb_per_s * larger / slower,
        )
        for each in memory.grows
    )
    return replace(memory, mb=tuple(each * larger for each in memory.mb), grows=tuple(grows))


def machines(case: Case, nodes: int) -> tuple[str, ...]:
    """Name the machines that a case is priced on, out of those with as many nodes."""
    known = [PUBLISHED, *_by_nodes().get(nodes, ())]
    return tuple(Random(case.name).sample(known, min(MACHINES_EACH, len(known))))  # noqa: S311 - as above


def all_machines() -> tuple[str, ...]:
    """Name all that a case may be priced on."""
    return (PUBLISHED, *sorted(name for names in _by_nodes().values() for name in names))


def _by_nodes() -> Mapping[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for name in sorted(shipped.names("machines")):
        if name not in NOT_SOCKETS:
            nodes = len(cost.read(shipped.find("machines", name)).latency_ns)
            found[nodes] = (*found.get(nodes, ()), name)
    return found


def prices(case: Case, machine: str, on: Topology) -> Iterator[Prices]:
    """Give what it costs around a machine, and the same with all costs off."""
    random = Random(f"{case.name}/{machine}")  # noqa: S311 - as above
    known = cost.default_prices(on) if machine == PUBLISHED else cost.read(shipped.find("machines", machine))
    around = _changed(
        known, random.uniform(0.6, 1.6), float(np.exp(random.uniform(-0.9, 0.9))), random.uniform(0.1, 0.6)
    )
    yield around
    off = [random.choice((1 - OFF, 1 + OFF)) for _ in range(3)]
    yield _changed(around, off[0], off[1], around.memory_share * off[2])


def _changed(known: Prices, distance: float, moving: float, memory_share: float) -> Prices:
    """Give prices with distances that cost so many times as much more than none, and others for moving and waiting."""
    local = np.diag(known.latency_ns)[:, None]
    changed: dict[str, Any] = {
        "latency_ns": local + (known.latency_ns - local) * distance,
        "memory_share": memory_share,
        "machine": None,  # idle memory: loads are others' measurements, which draws would tear apart
        "ends": (),
    }
    return replace(known, **changed).moving_for(
        tuple((size, price * moving) for size, price in known.move_ns)
    )
