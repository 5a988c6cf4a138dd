# SPDX-License-Identifier: Apache-2.0

"""Machine files: what latency, bandwidth and moving cost on one machine, read strictly and written to be read.

A row of every matrix is an initiator, a column a target, in the order of node ids. Only ``source`` and
``latency_ns`` are needed; what is left out was not measured. GB = 10^9 bytes, as data sheets count.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from numad_py.profile import from_mapping, load_yaml

Matrix = tuple[tuple[float, ...], ...]
Known = tuple[tuple[float | None, ...], ...]
"""A matrix in which null stands where nothing can be measured."""

_HEAD: Final = """\
# Written by numad-py calibrate; read by numad-py simulate --machine. docs/calibrating.md tells what the figures mean.
# A row is an initiator, a column a target, in the order of node ids; GB = 10^9 bytes.

"""


@dataclass(frozen=True)
class Bandwidth:
    """By node pair. ``copy_gb_per_s`` counts the bytes read and those written, ``write_gb_per_s`` only those stored."""

    read_gb_per_s: Known = ()
    write_gb_per_s: Known = ()
    copy_gb_per_s: Known = ()

    def __post_init__(self) -> None:
        cells = [cell for matrix in self.matrices() for row in matrix for cell in row]
        if not all(cell is None or cell > 0 for cell in cells):
            raise ValueError("a bandwidth is more than 0, or null")

    def matrices(self) -> tuple[Known, ...]:
        """Give those that were measured."""
        return tuple(filter(None, (self.read_gb_per_s, self.write_gb_per_s, self.copy_gb_per_s)))


@dataclass(frozen=True)
class LoadedLatency:
    """One pair's latency while other cores of the initiator read from the target: at so many GB/s, so many ns."""

    initiator: int
    target: int
    gb_per_s: tuple[float, ...]
    latency_ns: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.gb_per_s) != len(self.latency_ns):
            raise ValueError("latency_ns: a figure for each load is needed")
        if not all(latency > 0 for latency in self.latency_ns) or not all(
            load >= 0 for load in self.gb_per_s
        ):
            raise ValueError("latency_ns: a latency is more than 0, and a load not less")


@dataclass(frozen=True)
class Measured:
    """Where and when it was measured, and how sure that is.

    ``spread_share`` gives by quantity, per pair, the middle half of the repetitions over their median;
    ``doubts`` are sentences. ``verified_events`` names the row of the CPU's events that told local from
    remote memory for every pair.
    """

    at: str = ""
    by: str = ""
    kernel: str = ""
    cpu: str = ""
    hypervisor: str = ""
    nodes: tuple[int, ...] = ()
    spread_share: Mapping[str, Known] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    verified_events: str = ""


@dataclass(frozen=True)
class MachineFile:
    """A machine's costs; ``move_ns`` maps page bytes to nanoseconds, the other scalars are those of ``sim.cost``."""

    source: str
    latency_ns: Matrix
    move_ns: Mapping[str, float] = field(default_factory=dict)
    call_ns: int | None = None
    memory_share: float | None = None
    bandwidth: Bandwidth = Bandwidth()
    bandwidth_together: Bandwidth = Bandwidth()
    loaded_latency: tuple[LoadedLatency, ...] = ()
    measured: Measured = Measured()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.latency_ns) for row in self.latency_ns):
            raise ValueError(
                "latency_ns: a row for every node, and in it a figure for every node, are needed"
            )
        if not all(latency > 0 for row in self.latency_ns for latency in row):
            raise ValueError("latency_ns: a latency is more than 0")
        if not all(size.isdecimal() and int(size) for size in self.move_ns):
            raise ValueError("move_ns: page sizes in bytes are needed, as in 4096: 1240")
        if not all(price > 0 for price in self.move_ns.values()) or (self.call_ns or 0) < 0:
            raise ValueError("move_ns, call_ns: a price is more than 0")
        if not 0 <= (self.memory_share or 0) <= 1:
            raise ValueError("memory_share: a share is between 0 and 1")
        self._check_nodes()

    def _check_nodes(self) -> None:
        nodes = len(self.latency_ns)
        known = *self.bandwidth.matrices(), *self.bandwidth_together.matrices()
        if any(len(side) != nodes for matrix in known for side in (matrix, *matrix)):
            raise ValueError(
                "bandwidth: as many rows, and in each as many figures, as latency_ns has are needed"
            )


def read(path: Path) -> MachineFile:
    """Read a machine file; raise ProfileError, which says what is wrong and where."""
    return from_mapping(MachineFile, load_yaml(path), str(path))


def write(path: Path, machine: MachineFile, *, overwrite: bool = False) -> None:
    """Write a machine file; raise FileExistsError rather than overwrite one unasked."""
    text = render(machine)
    with path.open("w" if overwrite else "x", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def render(machine: MachineFile) -> str:
    """Give the text of a machine file; a matrix has a line for each of its rows."""
    values = {name: _plain(value) for name, value in asdict(machine).items() if value not in (None, (), {})}
    values |= {
        name: _without_blanks(values[name]) for name in ("bandwidth", "bandwidth_together", "measured")
    }
    return _HEAD + yaml.safe_dump(
        {name: value for name, value in values.items() if value != {}},
        default_flow_style=None,
        sort_keys=False,
        width=1000,
        allow_unicode=True,
    )


def _plain(value: Any) -> Any:
    """Give lists for tuples, and page sizes as numbers."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {int(key) if key.isdecimal() else key: _plain(each) for key, each in value.items()}
    return value


def _without_blanks(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", [], {})}
