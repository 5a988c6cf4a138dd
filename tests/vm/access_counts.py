# SPDX-License-Identifier: Apache-2.0

"""How often user space missed a small cache, by node that asked and node that answered: the tests' ground truth.

tests/vm/access_counter.c counts, inside QEMU; this builds it, loads it and reads it, on the host and in the guest
alike: ``python -m tests.vm.access_counts GUEST`` shows the counts as they are at that moment.
"""

import argparse
import itertools
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.vm.guests import BY_NAME, Guest

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "guest"
BLOCK_MIB = 2

_PLUGIN = BUILD / "access_counter.so"
READ_LINES = BUILD / "read_lines"
_GCC = ("gcc", "-O2", "-Wall", "-Wextra", "-Werror")
_OPTIONS = {_PLUGIN: ("-fPIC", "-shared", "-fvisibility=hidden"), READ_LINES: ("-pthread",)}


def build() -> None:
    """Compile the plugin and the job of known accesses, where what is there is older than its source."""
    for made, options in _OPTIONS.items():
        source = HERE / f"{made.stem}.c"
        if not made.exists() or made.stat().st_mtime <= source.stat().st_mtime:
            subprocess.run([*_GCC, *options, str(source), "-o", str(made)], check=True)


def qemu_options(guest: Guest) -> str:
    """Give what makes QEMU count the accesses of a guest."""
    return f"-plugin {_PLUGIN},counts={path_of(guest)},blocks={_blocks(guest)[-1].stop}"


def path_of(guest: Guest) -> Path:
    """Give the file of counts; it has the same path on both sides."""
    return BUILD / guest.name / "accesses"


def seconds_path_of(guest: Guest) -> Path:
    """Give the table of what was counted in each second."""
    return path_of(guest).with_suffix(".csv")


def _blocks(guest: Guest) -> list[slice]:
    """Give the blocks of each node.

    Since QEMU commit 787148bf928a ("plugins: Expose physical addresses instead of device offsets") and until
    "plugin: Simplify struct qemu_plugin_hwaddr" (September 2023), qemu_plugin_hwaddr_phys_addr() adds a RAM block's
    place among all RAM blocks to its place in the machine's RAM. For the memory of a node both are the sizes of the
    nodes before it, added up. Seen so in 7.2.
    """
    sizes = [node.mib // BLOCK_MIB for node in guest.nodes]
    starts = itertools.accumulate(sizes, initial=0)
    return [slice(2 * start, 2 * start + size) for start, size in zip(starts, sizes, strict=False)]


@dataclass(frozen=True, eq=False)
class AccessCounts:
    """Accesses that missed; ``by_cpu`` has the shape (CPUs, blocks + 1) and ends with what was no node's."""

    guest: Guest
    by_cpu: NDArray[np.uint64]

    @staticmethod
    def read(guest: Guest) -> "AccessCounts":
        """Read what was counted since power-on."""
        cpus = sum(len(node.cpus) for node in guest.nodes)
        return AccessCounts(guest, np.fromfile(path_of(guest), np.uint64).reshape(cpus, -1))

    def __sub__(self, earlier: "AccessCounts") -> "AccessCounts":
        """Give what was counted since an earlier reading."""
        return AccessCounts(self.guest, self.by_cpu - earlier.by_cpu)

    def by_block(self, node: int) -> NDArray[np.uint64]:
        """Give the counts of a node's memory, in the order of its physical addresses: shape (CPUs, its blocks)."""
        return self.by_cpu[:, _blocks(self.guest)[node]]

    @property
    def by_node(self) -> NDArray[np.int64]:
        """Give the counts as (initiator, target); a node without CPUs asks for nothing."""
        nodes = range(len(self.guest.nodes))
        by_target = np.stack([self.by_block(node).sum(axis=1) for node in nodes], axis=1)
        rows = [by_target[list(node.cpus)].sum(axis=0) for node in self.guest.nodes]
        return np.array(rows, np.int64)

    @property
    def elsewhere(self) -> int:
        """Accesses whose memory is no node's or could not be told."""
        return int(self.by_cpu.sum()) - int(self.by_node.sum())

    @property
    def remote_share(self) -> float:
        """The share of all accesses that another node answered; 0 where there were none."""
        total = self.by_node.sum()
        return float(1 - np.trace(self.by_node) / total) if total else 0.0

    def __str__(self) -> str:
        """Give a line: all of them, the remote share, and the counts by initiator and target."""
        cells = ", ".join(
            f"{source}>{target} {count}" for (source, target), count in np.ndenumerate(self.by_node) if count
        )
        return f"{self.by_node.sum()} accesses, remote share {self.remote_share:.3f}: {cells}"


class PerSecond:
    """Writes what was counted in each second of the host's CLOCK_MONOTONIC, as accesses.csv beside the counts."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._path = seconds_path_of(guest)
        nodes = range(len(guest.nodes))
        self._path.write_text(",".join(["time_s", *(f"{a}>{b}" for a in nodes for b in nodes)]) + "\n")
        path_of(guest).unlink(missing_ok=True)  # an earlier run's
        self._last: AccessCounts | None = None
        self._due_s = time.monotonic()

    def turn(self) -> None:
        """Write a line where a second has passed; to be called more often than that."""
        now_s, path = time.monotonic(), path_of(self._guest)
        if now_s < self._due_s or not (path.exists() and path.stat().st_size):
            return
        counts = AccessCounts.read(self._guest)
        since = counts - self._last if self._last else counts
        with self._path.open("a") as lines:
            lines.write(",".join([f"{now_s:.2f}", *map(str, since.by_node.ravel().tolist())]) + "\n")
        self._last, self._due_s = counts, now_s + 1


def main() -> None:
    """Show a guest's counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.access_counts", description=main.__doc__)
    parser.add_argument("guest", choices=sorted(BY_NAME))
    guest = BY_NAME[parser.parse_args().guest]
    try:
        print(AccessCounts.read(guest))
    except FileNotFoundError as error:
        parser.exit(1, f"no {error.filename}: boot {guest.name} with --count-accesses\n")


if __name__ == "__main__":
    main()
