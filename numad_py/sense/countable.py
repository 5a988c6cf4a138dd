# SPDX-License-Identifier: Apache-2.0

"""Tell which events can be counted on this machine, and of the others why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cpu_model, perf_groups, perf_refusals, pmu_events
from numad_py.kernel.perf_events import (
    CONTEXT_SWITCHES,
    CPU_CYCLES,
    CPU_MIGRATIONS,
    INSTRUCTIONS,
    PAGE_FAULTS,
    Event,
)
from numad_py.kernel.pmu_events import Row

# Two groups: what the kernel counts is exact, however scarce the counters of the CPU are.
OF_KERNEL: Final = (PAGE_FAULTS, CONTEXT_SWITCHES, CPU_MIGRATIONS)
OF_CPU: Final = (CPU_CYCLES, INSTRUCTIONS)

_NO_ROW: Final = "local and remote accesses: no events are known that tell them apart on this CPU"


@dataclass(frozen=True)
class Availability:
    """Whether an event can be counted here; ``why`` says why not, and what would help."""

    name: str
    available: bool
    why: str


@dataclass(frozen=True)
class Countable:
    """The row of this CPU, the events that can be counted together, and the reasons of those that cannot."""

    row: Row | None
    groups: tuple[tuple[Event, ...], ...]
    refused: Mapping[Event, str]

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence a reason, naming all events it holds back."""
        reasons = dict.fromkeys(self.refused.values())
        names = {why: [event.name for event in self.refused if self.refused[event] == why] for why in reasons}
        told = tuple(f"{', '.join(names[why])}: {why}" for why in reasons)
        return told if self.row else (*told, _NO_ROW)


def find(root: Path = Path("/")) -> Countable:
    """Try each event that a job would be counted by, on this thread."""
    row = _row(root)
    groups = []
    refused: dict[Event, str] = {}
    for events in (OF_KERNEL, OF_CPU + (row.events if row else ())):
        usable, errors = perf_groups.usable(events)
        refused |= {event: perf_refusals.why(error, root) for event, error in errors}
        groups += [usable] if usable else []
    return Countable(row, tuple(groups), refused)


def availability(root: Path = Path("/")) -> tuple[Availability, ...]:
    """Say of each event whether it can be counted here."""
    found = find(root)
    usable = [Availability(event.name, available=True, why="") for group in found.groups for event in group]
    refused = [Availability(event.name, available=False, why=why) for event, why in found.refused.items()]
    return (*usable, *refused)


def _row(root: Path) -> Row | None:
    try:
        return pmu_events.row_of(cpu_model.read(root))
    except Malformed:  # s390, riscv and others write other things there
        return None
