# SPDX-License-Identifier: Apache-2.0

"""Drive DAMON, the kernel's access monitor, through /sys/kernel/mm/damon/admin.

One kdamond, one context that walks page tables ("fvaddr": as "vaddr", in given
ranges), and for each process a target and a scheme of its own. DAMON shows
regions only as those that a scheme was applied to; the scheme's action is
``stat``, which changes nothing, and its filter lets one target through. The
files are those of Documentation/admin-guide/mm/damon/usage.rst; a filter by
target needs Linux 6.6.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from numad_py.kernel import Malformed
from numad_py.topology import Addresses, Ints

__all__ = [
    "Malformed",
    "Pace",
    "Target",
    "claim",
    "columns",
    "command",
    "configure",
    "identity",
    "kdamond",
    "kdamonds",
    "modules",
    "number",
    "patiently",
    "release",
    "tried_regions",
    "watched",
]

T = TypeVar("T")

_Values = Iterator[tuple[str, int | str]]

_ADMIN: Final = Path("sys/kernel/mm/damon/admin/kdamonds")
_CONTEXT: Final = _ADMIN / "0/contexts/0"
_TRIES: Final = 50
_BUSY_S: Final = 0.002
_U32_MAX: Final = (1 << 32) - 1
_U64_MAX: Final = (1 << 64) - 1
_NUMBER: Final = re.compile(rb"-?[0-9]{1,20}\n?")
_REGION: Final = ("start", "end", "nr_accesses")
# Each region that is shown costs the kernel a directory and us three reads; of most there is nothing to tell.
_ACCESSED: Final = {"sz": (0, _U64_MAX), "nr_accesses": (1, _U32_MAX), "age": (0, _U32_MAX)}


@dataclass(frozen=True)
class Pace:
    """How often DAMON checks each region, how often it adds up and adapts them, and how many it keeps in all."""

    sample_us: int
    aggr_us: int
    fewest_regions: int
    most_regions: int


@dataclass(frozen=True, eq=False)
class Target:
    """A process and the ranges to begin with, ascending; ``edges`` has the shape (ranges, 2)."""

    pid: int
    edges: Addresses


def kdamonds(root: Path = Path("/")) -> int:
    """Read how many kdamonds somebody has set up; FileNotFoundError where the kernel has no DAMON."""
    return _read(root / _ADMIN / "nr_kdamonds")


def modules(root: Path = Path("/")) -> tuple[str, ...]:
    """Name the kernel's own users of DAMON that are switched on, such as damon_reclaim and damon_lru_sort."""
    switches = sorted((root / "sys/module").glob("damon_*/parameters/enabled"))
    return tuple(switch.parts[-3] for switch in switches if switch.read_bytes().strip() == b"Y")


def patiently(attempt: Callable[[], T]) -> T:
    """Do what may be answered with EBUSY, some times more; the last time that is raised.

    In v6.12 damon_sysfs_cmd_request_callback() of mm/damon/sysfs.c takes damon_sysfs_lock at every sampling,
    and whoever reads ``pid`` or writes ``state`` or ``nr_kdamonds`` just then is turned away.
    """
    for _ in range(_TRIES):
        try:
            return attempt()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        time.sleep(_BUSY_S)
    return attempt()


def claim(root: Path = Path("/")) -> int:
    """Make one kdamond, in place of whatever was set up, and give its identity."""
    _write(root / _ADMIN / "nr_kdamonds", 1)
    return identity(root)


def identity(root: Path = Path("/")) -> int:
    """Give what no other kdamond of this boot has, however often the number is written; 0 for none.

    Each write to nr_kdamonds makes the directories anew. Since Linux commit 40430452fd5d
    ("kernfs: use 64bit inos if ino_t is 64bit") (in v5.5) no inode number comes twice.
    """
    try:
        return (root / _ADMIN / "0").stat().st_ino
    except FileNotFoundError:
        return 0


def configure(targets: Sequence[Target], pace: Pace, root: Path = Path("/")) -> None:
    """Lay out one context in which each process is a target and has a scheme."""
    _write(root / _ADMIN / "0/contexts/nr_contexts", 1)
    values = [*_attributes(pace), ("targets/nr_targets", len(targets)), ("schemes/nr_schemes", len(targets))]
    for index, target in enumerate(targets):
        values += [*_target(f"targets/{index}", target), *_scheme(f"schemes/{index}", index)]
    directory = os.open(root / _CONTEXT, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path, value in values:
            _write(path, value, directory)
    finally:
        os.close(directory)


def _attributes(pace: Pace) -> _Values:
    yield "operations", "fvaddr"
    yield "monitoring_attrs/intervals/sample_us", pace.sample_us
    yield "monitoring_attrs/intervals/aggr_us", pace.aggr_us
    yield "monitoring_attrs/nr_regions/min", pace.fewest_regions
    yield "monitoring_attrs/nr_regions/max", pace.most_regions


def _target(folder: str, target: Target) -> _Values:
    yield f"{folder}/pid_target", target.pid
    yield f"{folder}/regions/nr_regions", len(target.edges)
    for index, (start, end) in enumerate(target.edges.tolist()):
        yield f"{folder}/regions/{index}/start", start
        yield f"{folder}/regions/{index}/end", end


def _scheme(folder: str, target: int) -> _Values:
    yield f"{folder}/action", "stat"
    for name, (least, most) in _ACCESSED.items():
        yield f"{folder}/access_pattern/{name}/min", least
        yield f"{folder}/access_pattern/{name}/max", most
    yield f"{folder}/filters/nr_filters", 1
    yield f"{folder}/filters/0/type", "target"
    yield f"{folder}/filters/0/damon_target_idx", target
    yield f"{folder}/filters/0/matching", "N"  # what is not of this target is left out


def watched(root: Path = Path("/")) -> tuple[int, ...]:
    """Read the PIDs of all targets, 0 for one not yet said; none where nothing is laid out."""
    folder = root / _CONTEXT / "targets"
    try:
        return tuple(_read(folder / f"{index}/pid_target") for index in range(_read(folder / "nr_targets")))
    except FileNotFoundError:
        return ()


def kdamond(root: Path = Path("/")) -> int | None:
    """Read the PID of the kernel thread that monitors now; None while none does."""
    try:
        pid = patiently(lambda: _read(root / _ADMIN / "0/pid"))
    except FileNotFoundError:
        return None
    return pid if pid > 0 else None


def command(word: str, root: Path = Path("/")) -> None:
    """Tell the kdamond "on", "off" or "update_schemes_tried_regions".

    Raises OSError with EBUSY where somebody else is at it at this moment, and EINVAL where it does not
    run or a process to watch is gone. The update returns at the end of an aggregation: it can take two.
    """
    patiently(lambda: _write(root / _ADMIN / "0/state", word))


def release(root: Path = Path("/")) -> None:
    """End the monitoring and remove all that was set up."""
    if kdamond(root) is not None:
        try:
            command("off", root)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):  # it has ended by itself meanwhile
                raise
    patiently(lambda: _write(root / _ADMIN / "nr_kdamonds", 0))


def tried_regions(index: int, root: Path = Path("/")) -> tuple[Addresses, Addresses, Ints]:
    """Read start, end and nr_accesses of each region of one target that was accessed, ascending, as columns.

    They are as of the last update. OSError where they vanish meanwhile.
    """
    directory = os.open(root / _CONTEXT / f"schemes/{index}/tried_regions", os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = [name for name in os.listdir(directory) if name.isdecimal()]  # noqa: PTH208 - pathlib knows no descriptors
        return columns([[_read_below(directory, f"{name}/{file}") for file in _REGION] for name in names])
    finally:
        os.close(directory)


def columns(rows: Sequence[Sequence[bytes]]) -> tuple[Addresses, Addresses, Ints]:
    """Give regions as columns, ascending; Malformed where two overlap or one is empty."""
    table = sorted(tuple(number(text) for text in row) for row in rows)
    bounds = [edge for start, end, _ in table for edge in (start, end)]
    counts = [count for *_, count in table]
    ascending = all(low < high for low, high in zip(bounds[::2], bounds[1::2], strict=True))
    apart = all(end <= start for end, start in zip(bounds[1::2], bounds[2::2], strict=False))
    if not (ascending and apart and all(0 <= edge <= _U64_MAX for edge in bounds)):
        raise Malformed(f"tried_regions: {bounds[:8]}")
    if not all(0 <= count <= _U32_MAX for count in counts):
        raise Malformed(f"nr_accesses: {counts[:8]}")
    return np.array(bounds[::2], np.uint64), np.array(bounds[1::2], np.uint64), np.array(counts, np.int64)


def number(text: bytes) -> int:
    """Give the number that a file holds; Malformed if it is none."""
    if not _NUMBER.fullmatch(text):
        raise Malformed(f"DAMON: no number: {text[:80]!r}")
    return int(text)


def _read(path: Path) -> int:
    return number(path.read_bytes())


def _read_below(directory: int, path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, 32)
    finally:
        os.close(file)


def _write(path: Path | str, value: int | str, directory: int | None = None) -> None:
    file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(file, f"{value}\n".encode("ascii"))
    finally:
        os.close(file)
