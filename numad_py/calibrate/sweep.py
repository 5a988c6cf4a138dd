# SPDX-License-Identifier: Apache-2.0

"""All measurements of a machine, one step after another, and the machine file that they make."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from numad_py.calibrate import CannotCalibrate, bandwidth, latency, memory
from numad_py.calibrate.bandwidth import GB, LOOPS, share_out
from numad_py.calibrate.figures import Effort, Figure, Quantity, figure
from numad_py.calibrate.latency import PAUSES, Chase, Load
from numad_py.calibrate.site import Site

Pair = tuple[int, int]

_TOGETHER = {
    Quantity.READ: Quantity.READ_TOGETHER,
    Quantity.WRITE: Quantity.WRITE_TOGETHER,
    Quantity.COPY: Quantity.COPY_TOGETHER,
}


@dataclass
class Found:
    """What was measured, by pair of initiator and target; bandwidths in GB (10^9 bytes) a second."""

    figures: dict[Quantity, dict[Pair, Figure]] = field(default_factory=dict)
    loads: dict[Pair, list[Load]] = field(default_factory=dict)
    huge_share: dict[int, float] = field(default_factory=dict)

    def add(self, quantity: Quantity, pair: Pair, found: Figure) -> None:
        """Take in one figure."""
        self.figures.setdefault(quantity, {})[pair] = found


@dataclass(frozen=True)
class Step:
    """One thing to do, of a second or less; ``label`` is for the progress bar."""

    label: str
    run: Callable[[], None]

    def __str__(self) -> str:
        return self.label


def no_counters(_: int, __: int) -> AbstractContextManager[object]:
    """Count nothing around a chase."""
    return nullcontext()


class Sweep:
    """Measures a site. ``around`` is entered in the chasing thread with initiator and target, around each idle chase."""

    def __init__(
        self,
        site: Site,
        effort: Effort,
        around: Callable[[int, int], AbstractContextManager[object]] = no_counters,
    ) -> None:
        self.found = Found()
        self._site = site
        self._effort = effort
        self._around = around
        self._words: dict[int, memory.NodeWords] = {}
        self._chases: dict[int, Chase] = {}

    def steps(self) -> list[Step]:
        """Give all that is to be done, in order."""
        site = self._site
        return [
            *(Step(f"memory of node {target}", partial(self._take, target)) for target in site.targets),
            *(Step(f"latency {a} to {b}", partial(self._idle, a, b)) for a, b in site.pairs),
            *self._bandwidth_steps(),
            *self._loaded_steps(),
        ]

    def _bandwidth_steps(self) -> Iterator[Step]:
        for operation in LOOPS:
            for a, b in self._site.pairs:
                yield Step(f"{operation} {a} to {b}", partial(self._bandwidth, operation, operation, {a: b}))
            for at_once in self._site.rounds():
                together = _TOGETHER[operation]
                yield Step(f"{together}", partial(self._bandwidth, together, operation, at_once))

    def _loaded_steps(self) -> Iterator[Step]:
        for a, b in self._site.pairs:
            if self._site.cores[a][1:]:
                for pause in PAUSES:
                    yield Step(f"loaded latency {a} to {b}", partial(self._loaded, a, b, pause))

    def _take(self, target: int) -> None:
        site = self._site
        try:
            words = memory.on_node(
                target,
                chain_bytes=site.chain_bytes[target],
                stream_bytes=site.stream_bytes[target],
                bound=len(site.topology.nodes) > 1,
            )
        except OSError as error:
            raise CannotCalibrate(f"node {target} gives us no memory: {error.strerror}") from None
        self._words[target] = words
        self._chases[target] = Chase(words.chain)
        self.found.huge_share[target] = words.huge_share

    def _idle(self, initiator: int, target: int) -> None:
        around = partial(self._around, initiator, target)
        cpu = self._site.cores[initiator][0]
        found = latency.idle(cpu, self._chases[target], self._effort, around)
        self.found.add(Quantity.LATENCY, (initiator, target), found)

    def _bandwidth(self, quantity: Quantity, operation: Quantity, at_once: Mapping[int, int]) -> None:
        cores = self._site.cores
        streams = {
            cpu: words
            for target in set(at_once.values())
            for cpu, words in share_out(
                self._words[target].stream,
                tuple(cpu for initiator, to in at_once.items() if to == target for cpu in cores[initiator]),
            ).items()
        }
        repetitions = bandwidth.repeated(streams, operation, self._effort)
        for initiator, target in at_once.items():
            rates = [sum(by_cpu[cpu] for cpu in cores[initiator]) / GB for by_cpu in repetitions]
            self.found.add(quantity, (initiator, target), figure(rates))

    def _loaded(self, initiator: int, target: int, pause: int) -> None:
        first, *others = self._site.cores[initiator]
        streams = share_out(self._words[target].stream, tuple(others))
        load = latency.loaded(first, self._chases[target], streams, pause, self._effort)
        self.found.loads.setdefault((initiator, target), []).append(load)


def run(sweep: Sweep, watched: Callable[[Iterable[Step]], Iterable[Step]]) -> Found:
    """Do all steps, which ``watched`` may show as they go by."""
    for step in watched(sweep.steps()):
        step.run()
    return sweep.found
