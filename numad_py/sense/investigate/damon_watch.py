# SPDX-License-Identifier: Apache-2.0

"""Find out which process heats which part of what several of them share, with DAMON.

Problem: pages that several processes map look alike to whoever asks about the
pages, and kernel balancing leaves them out.
Primitive: DAMON looks at the accessed bits of one process's own page table.
Application: for some seconds every process of a job is watched, where its
memory is, at a pace that keeps the kernel's thread within a share of one core.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed, damon, proc_stat, vmstat
from numad_py.model import Accesses, AccessSource, Process, ProcessKey, Regions, ThreadGroup, Threads
from numad_py.sense.cpu_time import TICK_S, CpuTime
from numad_py.sense.investigate.damon_claim import Claim
from numad_py.topology import Addresses, Floats, Ints, Topology

CHECKS: Final = 10  # of each region in a round; then they are adapted, and the next round begins
ROUNDS: Final = 2  # at least, in the time there is
FASTEST_S: Final = 0.005  # from one check to the next
REGIONS: Final = (8, 128)  # of each process, at least and at most
CHECK_S: Final = 10e-6  # of CPU time for one region: as on the slowest machine, until this one's is known
CHEAPEST_S: Final = 0.1e-6
LOOKS_S: Final = (1.5, 3.0, 6.0)  # after the start: few, since each costs us three files for each region
PARTS: Final = 8  # of a process, by which two looks are compared: ten checks of one region alone are few
UNLIKE_SHARE: Final = 0.2  # of what two looks saw, at most, in other parts by one than by the other

_ENDED: Final = "ZX"  # states of /proc/PID/stat; DAMON goes on until somebody has waited for the process

_Rows = tuple[Addresses, Addresses, Ints]


@dataclass(frozen=True, eq=False)
class _Watch:
    """What is being watched, in the order of DAMON's targets; ``parts`` are where parts of it begin, and the end."""

    keys: tuple[ProcessKey, ...]
    parts: tuple[Addresses, ...]
    pace: damon.Pace
    kdamond: int
    began_s: float


class Damon:
    """Watches processes for some seconds: ``start``, ``collect`` as often as wanted, ``stop``.

    Needs root. ``pace`` is that of the last start; ``problems`` says in sentences why nothing, or less,
    was seen since then.
    """

    sees_shared: Final = True

    def __init__(
        self,
        topology: Topology,
        *,
        state: Path,
        watch_s: float = 10.0,
        core_share: float = 0.1,
        root: Path = Path("/"),
    ) -> None:
        self._topology = topology
        self._claim = Claim(state, root)
        self._watch_s = watch_s
        self._core_share = core_share
        self._root = root
        self._check_s = CHECK_S
        self._watch: _Watch | None = None
        self._cost_s = 0.0
        self._settled: list[_Rows] | None = None  # what the look saw by which it was
        self.pace: damon.Pace | None = None
        self.problems: list[str] = []

    def start(self, processes: Sequence[Process]) -> bool:
        """Begin to watch; False where that cannot be now. Takes two short writes for each of their regions."""
        self.stop()
        self.problems, self._cost_s = [], 0.0
        having = {each.key: each.regions for each in processes if each.regions.resident_bytes.any()}
        why = self._claim.take([key.pid for key in having]) if having else "no process has memory to watch"
        why = why or self._set_up(having)
        self.problems += [why] if why else []
        return not why

    def _set_up(self, having: Mapping[ProcessKey, Regions]) -> str:
        """Configure DAMON and begin; say why not where it fails."""
        self.pace = pace_of(len(having), self._check_s, core_share=self._core_share, watch_s=self._watch_s)
        pieces = self.pace.most_regions // 2 // len(having)
        targets = [damon.Target(key.pid, cut(regions, pieces)) for key, regions in having.items()]
        try:
            damon.configure(targets, self.pace, self._root)
            damon.command("on", self._root)
            kdamond = damon.kdamond(self._root)
        except OSError as error:
            self._release()
            return f"DAMON could not be started: {error}"
        if kdamond is None:
            self._release()
            return "DAMON ended at once: the processes are gone"
        parts = tuple(_parts(target.edges) for target in targets)
        self._watch = _Watch(tuple(having), parts, self.pace, kdamond, time.monotonic())
        self._looks_s = [] if pieces < REGIONS[1] else list(LOOKS_S)  # what was cut coarsely takes DAMON time
        self._seen, self._settled = np.zeros(0), None
        self._scanned, self._cpu_time = self._scanned_pages(), CpuTime(self._root)
        self._threads(self._watch)
        return ""

    def is_settled(self) -> bool:
        """Whether two looks in a row saw the same, or it was ended: then watching on tells no more."""
        watch = self._watch
        if watch is None or not self._looks_s or time.monotonic() < watch.began_s + self._looks_s[0]:
            return watch is None
        del self._looks_s[0]
        try:
            rows = self._read(watch)
        except (OSError, Malformed):
            return False  # collect() says so, if it goes on
        if rows is None:
            return True
        before, self._seen = self._seen, _heat(rows, watch.parts)
        if not len(before) or not _is_like(before, self._seen):
            return False
        self._settled = rows
        return True

    def collect(self) -> dict[ProcessKey, Accesses]:
        """Give what each process that is still there touched in the last round; none if that is not known.

        Blocks until the round ends, for one or two times CHECKS intervals, unless it has just settled. Each process
        is one group, whose CPU time is since the start or the last call. Where reclaim ran meanwhile it too took the
        accessed bits, and nothing is given.
        """
        watch = self._watch
        if watch is None:
            return {}
        try:
            rows, self._settled = self._settled or self._read(watch), None
        except (OSError, Malformed) as error:
            self.problems.append(f"DAMON did not answer: {error}")
            return {}
        scanned, self._scanned = self._scanned, self._scanned_pages()
        threads = self._threads(watch)
        if rows is None or not threads:
            self.problems.append("DAMON was ended: the processes are gone, or it has another user")
            self.stop()
            return {}
        if self._scanned != scanned:
            self.problems.append("reclaim ran while DAMON watched: what it saw is not valid")
            return {}
        seen = zip(watch.keys, rows, strict=True)
        return {key: self._accesses(each, threads[key], watch.pace) for key, each in seen if key in threads}

    def stop(self) -> None:
        """End the monitoring and leave nothing behind. Safe to call at any time."""
        watch, cost_s = self._watch, self.cost_s
        self._release()
        if watch is not None:
            self._learn(watch, cost_s)

    def _learn(self, watch: _Watch, cost_s: float) -> None:
        """Let the next pace follow from what this one cost."""
        checks = (time.monotonic() - watch.began_s) * 1e6 / watch.pace.sample_us
        if checks >= CHECKS:
            price_s = cost_s / (checks * watch.pace.most_regions / 2)
            # By steps: DAMON may have found little to tell apart, and kept few regions. The next may need them all.
            self._check_s = min(max(price_s, self._check_s / 2, CHEAPEST_S), self._check_s * 4)

    @property
    def cost_s(self) -> float:
        """CPU seconds that the kernel's thread used since the last start."""
        if self._watch is not None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = proc_stat.read(self._watch.kdamond, self._root)
                self._cost_s = (stat.utime_ticks + stat.stime_ticks) * TICK_S
        return self._cost_s

    def _release(self) -> None:
        self._watch = None
        try:
            self._claim.release()
        except (OSError, Malformed) as error:  # somebody else was at it just then; the next start removes it
            self.problems.append(f"DAMON could not be released: {error}")

    def _read(self, watch: _Watch) -> list[_Rows] | None:
        """Read the regions of each target; None where DAMON is no longer ours, or has ended."""
        if not self._is_ours(watch):
            return None
        damon.command("update_schemes_tried_regions", self._root)
        rows = [damon.tried_regions(index, self._root) for index in range(len(watch.keys))]
        return rows if self._is_ours(watch) else None

    def _is_ours(self, watch: _Watch) -> bool:
        return self._claim.holds and damon.kdamond(self._root) == watch.kdamond

    def _scanned_pages(self) -> int:
        counters = vmstat.read(self._root)
        return sum(value for name, value in counters.items() if name.startswith("pgscan_"))

    def _threads(self, watch: _Watch) -> dict[ProcessKey, Threads]:
        """Give what ran since the last call, of each process that is still the one we began with."""
        found = {}
        for key in watch.keys:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = proc_stat.read(key.pid, self._root)
                if stat.start_ticks == key.start_ticks and stat.state not in _ENDED:
                    found[key] = self._cpu_time.read(key, stat.utime_ticks + stat.stime_ticks)
        return found

    def _accesses(self, rows: _Rows, threads: Threads, pace: damon.Pace) -> Accesses:
        start, end, counts = rows
        cpu_s = self._topology.cpu_s_by_node(threads.cpu, threads.cpu_s)
        group = ThreadGroup(None, threads.tid, cpu_s)
        period_s = pace.aggr_us * 1e-6
        return Accesses(AccessSource.DAMON, (group,), start, end, counts[:, None], CHECKS, period_s)


def pace_of(processes: int, check_s: float, *, core_share: float, watch_s: float) -> damon.Pace:
    """Give as many regions and checks as a share of one core pays for, at ``check_s`` for each region."""
    fewest, most = REGIONS
    affordable = int(watch_s * core_share / check_s) // (CHECKS * ROUNDS * processes)
    regions = processes * min(max(affordable, fewest), most)
    sample_us = int(max(FASTEST_S, regions * check_s / core_share) * 1e6)
    # DAMON merges no further than the fewest, and goes on to split below half of the most. It takes no fewer than 3.
    return damon.Pace(sample_us, CHECKS * sample_us, max(regions // 4, 3), 2 * regions)


def _parts(edges: Addresses) -> Addresses:
    """Give where each of some parts of these ranges begins, and where the last ends."""
    first = np.arange(PARTS) * len(edges) // PARTS
    return np.append(edges[first, 0], edges[-1:, 1])


def _heat(rows: Sequence[_Rows], parts: Sequence[Addresses]) -> Floats:
    """Give how often parts were found accessed, by byte, those of each process behind those of the one before."""
    heat = []
    for (start, end, counts), part in zip(rows, parts, strict=True):
        edges = np.stack([start, end], axis=1).ravel()
        until = np.cumsum(np.stack([np.zeros(len(start)), (end - start) * counts], axis=1).ravel())
        heat.append(np.diff(np.interp(part, edges, until)) if len(edges) else np.zeros(PARTS))
    return np.concatenate(heat)


def _is_like(before: Floats, after: Floats) -> bool:
    seen = (before + after).sum()
    return bool(seen > 0 and np.abs(before - after).sum() <= UNLIKE_SHARE * seen)


def cut(regions: Regions, pieces: int) -> Addresses:
    """Give at most so many ranges, shape (ranges, 2), where a process has the most memory, each of about as much."""
    resident = regions.resident_bytes.sum(axis=1)
    rows = np.sort(np.argsort(-resident, kind="stable")[: pieces // 2])
    rows = rows[resident[rows] > 0]
    share = (pieces - len(rows)) * resident[rows] // resident[rows].sum()
    pages = (regions.end[rows] - regions.start[rows]).astype(np.int64) // regions.page_bytes[rows]
    columns = (regions.start[rows], np.minimum(share + 1, pages), pages, regions.page_bytes[rows])
    parts = [_split(*row) for row in zip(*(each.tolist() for each in columns), strict=True)]
    return np.concatenate([np.zeros((0, 2), np.uint64), *parts])


def _split(start: int, pieces: int, pages: int, page_bytes: int) -> Addresses:
    edges = start + pages * np.arange(pieces + 1) // pieces * page_bytes
    return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.uint64)
