# SPDX-License-Identifier: Apache-2.0

"""Tell who else moves, drops or merges pages on this machine, and what follows from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.kernel import ksm

ABSENT: Final = "absent"


@dataclass(frozen=True)
class Mover:
    """One setting of the kernel, or one process, that acts on pages as we do; ``means`` is what follows."""

    name: str
    value: str
    means: str


_TWO_MOVERS: Final = "the kernel moves pages too: what was placed may leave again"
_ALONE: Final = "the kernel repairs no placement: nobody else does, unless named below"

# Each: name, file, and what follows from its value; "" stands for any value that is not named. A file that is
# missing is told only where that means something.
_SETTINGS: Final[tuple[tuple[str, str, Mapping[str, str]], ...]] = (
    (
        "kernel.numa_balancing",
        "proc/sys/kernel/numa_balancing",
        {
            "0": _ALONE,
            ABSENT: _ALONE,
            "2": "the kernel brings hot pages to faster memory, but does not mend placement between sockets",
            "": _TWO_MOVERS,
        },
    ),
    (
        "vm.zone_reclaim_mode",
        "proc/sys/vm/zone_reclaim_mode",
        {
            "0": "a full node hands over to the next, so that memory may land far away",
            "": "a full node drops its page cache before memory is taken from another, and jobs wait for that",
        },
    ),
    (
        "demotion_enabled",
        "sys/kernel/mm/numa/demotion_enabled",
        {
            "false": "pages under pressure are dropped or swapped, not moved to slower memory",
            "": "pages under pressure move to slower memory: what was placed may leave again",
        },
    ),
    (
        "damon_reclaim",
        "sys/module/damon_reclaim/parameters/enabled",
        {
            "N": "it drops nothing",
            "": "pages that are idle are dropped, and DAMON is not to be had for watching",
        },
    ),
    (
        "ksm",
        "sys/kernel/mm/ksm/run",
        {
            "1": "pages with equal contents become one, by default even across nodes; those are not moved",
            "": "no more pages are merged",
        },
    ),
)


def movers(root: Path = Path("/")) -> tuple[Mover, ...]:
    """Read every setting that there is, and find a running numad."""
    return (*_settings(root), *_merged(root), *_numads(root))


def _settings(root: Path) -> Iterator[Mover]:
    for name, path, meanings in _SETTINGS:
        value = _read(root / path)
        if value != ABSENT or ABSENT in meanings:
            yield Mover(name, value, meanings.get(value, meanings[""]))


def _merged(root: Path) -> Iterator[Mover]:
    """Tell what is merged, which stays so when no more is."""
    if pages := ksm.shared_pages(root):
        means = "they stay where they are, and so does anonymous memory that processes of a job share"
        yield Mover("merged pages", str(pages), means)


def _numads(root: Path) -> Iterator[Mover]:
    for comm in sorted((root / "proc").glob("[0-9]*/comm")):
        if _read(comm) == "numad":
            yield Mover("numad", f"PID {comm.parent.name}", "it moves whole processes: stop one of the two")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()  # a process may be called anything
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ABSENT
