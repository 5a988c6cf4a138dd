# SPDX-License-Identifier: Apache-2.0

"""Machine files: what latency, bandwidth and moving cost on one machine, read strictly and written to be read.

A row of every matrix is an initiator, a column a target, in the order of node ids. Only ``source`` and
``latency_ns`` are needed; what is left out was not measured. GB = 10^9 bytes, as data sheets count.
Where a figure may be a `Figure`, one that nobody has published is given as the least and the most it may be.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import yaml

from numad_py.profile import from_mapping, load_yaml

Matrix = tuple[tuple[float, ...], ...]
Figure = float | tuple[float, float]
Figures = tuple[tuple[Figure, ...], ...]
Known = tuple[tuple[float | None, ...], ...]
"""A matrix in which null stands where nothing can be measured."""

_SHARE: Final = re.compile(r"0(\.[0-9]+)?|1")
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
    """A machine's costs; ``move_ns`` maps page bytes to nanoseconds.

    ``controller_gb_per_s`` is what each node's memory gives at most, where ``bandwidth`` was not measured.
    ``packages`` has the rows of the nodes of each package, ``link_gb_per_s`` is what one package reads from another at
    most. ``mix_gb_per_s`` maps the share of bytes that are written to what all nodes together give. ``parallel_accesses``
    are outstanding at once. ``sources`` tells by key where figures come from that ``source`` does not speak for.
    """

    source: str
    latency_ns: Figures
    move_ns: Mapping[str, float] = field(default_factory=dict)
    call_ns: int | None = None
    memory_share: float | None = None
    bandwidth: Bandwidth = Bandwidth()
    bandwidth_together: Bandwidth = Bandwidth()
    loaded_latency: tuple[LoadedLatency, ...] = ()
    controller_gb_per_s: tuple[Figure, ...] = ()
    packages: tuple[tuple[int, ...], ...] = ()
    link_gb_per_s: Figure | None = None
    mix_gb_per_s: Mapping[str, float] = field(default_factory=dict)
    parallel_accesses: Figure | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    measured: Measured = Measured()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.latency_ns) for row in self.latency_ns):
            raise ValueError(
                "latency_ns: a row for every node, and in it a figure for every node, are needed"
            )
        if not all(_makes_sense(latency) for row in self.latency_ns for latency in row):
            raise ValueError("latency_ns: a latency is more than 0, and a range goes upwards")
        if not all(size.isdecimal() and int(size) for size in self.move_ns):
            raise ValueError("move_ns: page sizes in bytes are needed, as in 4096: 1240")
        if not all(price > 0 for price in self.move_ns.values()) or (self.call_ns or 0) < 0:
            raise ValueError("move_ns, call_ns: a price is more than 0")
        if not 0 <= (self.memory_share or 0) <= 1:
            raise ValueError("memory_share: a share is between 0 and 1")
        self._check_nodes()
        self._check_load()

    @property
    def idle_ns(self) -> Matrix:
        """The latencies; of a range the middle."""
        return tuple(tuple(map(middle, row)) for row in self.latency_ns)

    @property
    def ranges(self) -> tuple[str, ...]:
        """Name what is given as a range, since nobody has published it."""
        figures = {
            "latency_ns": [cell for row in self.latency_ns for cell in row],
            "controller_gb_per_s": self.controller_gb_per_s,
            "link_gb_per_s": [self.link_gb_per_s],
            "parallel_accesses": [self.parallel_accesses],
        }
        return tuple(key for key, cells in figures.items() if any(isinstance(cell, tuple) for cell in cells))

    def at(self, end: int) -> "MachineFile":
        """Give the machine with what is a range at that end of it: 0 where memory matters least, 1 where it matters most.

        Memory nearby answers as late as it may where others answer as soon as they may, and least passes where it matters.
        """
        near, far = 1 - end, end
        latency_ns = tuple(
            tuple(_end(cell, near if row == column else far) for column, cell in enumerate(cells))
            for row, cells in enumerate(self.latency_ns)
        )
        return replace(
            self,
            latency_ns=latency_ns,
            controller_gb_per_s=tuple(_end(each, near) for each in self.controller_gb_per_s),
            link_gb_per_s=None if self.link_gb_per_s is None else _end(self.link_gb_per_s, near),
            parallel_accesses=None if self.parallel_accesses is None else _end(self.parallel_accesses, far),
        )

    def _check_load(self) -> None:
        nodes = sorted(node for package in self.packages for node in package)
        if self.packages and nodes != list(range(len(self.latency_ns))):
            raise ValueError("packages: every row of latency_ns is needed once, counted from 0")
        if len(self.controller_gb_per_s) not in (0, len(self.latency_ns)):
            raise ValueError("controller_gb_per_s: a figure for every node is needed")
        figures = *self.controller_gb_per_s, self.link_gb_per_s, self.parallel_accesses
        if not all(_makes_sense(each) for each in figures if each is not None):
            raise ValueError(
                "controller_gb_per_s, link_gb_per_s, parallel_accesses: more than 0, and a range goes upwards"
            )
        if not all(_SHARE.fullmatch(share) and gb > 0 for share, gb in self.mix_gb_per_s.items()):
            raise ValueError(
                "mix_gb_per_s: a share from 0 to 1 and a bandwidth are needed, as in 0.25: 208.3"
            )
        if self.mix_gb_per_s and "0" not in self.mix_gb_per_s:
            raise ValueError("mix_gb_per_s: what reads alone give, 0, is needed")
        if unknown := set(self.sources) - {each.name for each in fields(self)}:
            raise ValueError(f"sources: {min(unknown)} is no key of a machine file")

    def _check_nodes(self) -> None:
        nodes = len(self.latency_ns)
        known = *self.bandwidth.matrices(), *self.bandwidth_together.matrices()
        if any(len(side) != nodes for matrix in known for side in (matrix, *matrix)):
            raise ValueError(
                "bandwidth: as many rows, and in each as many figures, as latency_ns has are needed"
            )


def middle(figure: Figure) -> float:
    """Give a figure, or the middle of its range."""
    return sum(figure) / 2 if isinstance(figure, tuple) else figure


def _end(figure: Figure, end: int) -> float:
    return figure[end] if isinstance(figure, tuple) else figure


def _makes_sense(figure: Figure) -> bool:
    low, high = figure if isinstance(figure, tuple) else (figure, figure)
    return 0 < low <= high


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
