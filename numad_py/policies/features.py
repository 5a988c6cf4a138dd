# SPDX-License-Identifier: Apache-2.0

"""What a daemon knows of a candidate, as numbers that a model may learn from.

Problem: prices tell what a move saves while everything stays as it is; most of what goes wrong is that it does not.
Primitive: how long a process has been known, steady, and at home before; how long those of its job live; how much it runs
now beside before; what moves of it, and what for; how busy its target is.
Application: a row of `NAMES` for each candidate. Times end at `LONGEST_S`: after that, longer makes no difference.

Whether kernel balancing is on stands in no snapshot, and so in no row.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from numad_py.model import ProcessKey, Snapshot
from numad_py.policies.candidates import Candidates
from numad_py.policies.homes import NO_EVIDENCE
from numad_py.topology import Floats, Ints

NAMES: Final = (
    "remote_share",
    "remote_mb",
    "confidence",
    "payback_s",
    "cores",
    "home_cpu_share",
    "cpu_trend",
    "threads",
    "siblings",
    "known_s",
    "steady_s",
    "looks",
    "turns",
    "last_stay_s",
    "stay_left_s",
    "life_left_s",
    "several_share",
    "target_cpu_share",
    "placement_age_s",
    "grown_share",
)
LONGEST_S: Final = 120.0
MOST: Final = 100.0  # of looks, turns, and of what has no end
_REMEMBERS: Final = 0.8  # of averages, from reading to reading
_MB: Final = 1 << 20


class _History(NamedTuple):
    """One process: since when it is known and at this home, how often it turned, how long it stayed before.

    ``stay_s`` is what its stays took, half of which is the last.
    """

    job: int
    first_s: float
    first_bytes: int
    home: int
    since_s: float
    looks: int = 0
    turns: int = 0
    last_stay_s: float = LONGEST_S
    stay_s: float = LONGEST_S
    several_share: float = 0.0
    cores: float = 0.0


class Histories:
    """Follows processes from look to look."""

    def __init__(self) -> None:
        self._of: dict[ProcessKey, _History] = {}
        self._lives_s: dict[int, float] = {}  # by job, of those that ended, half of which is the last

    def look(self, snapshot: Snapshot, home: Ints, cores: Floats) -> None:
        """Go on; ``home`` and ``cores`` are by process."""
        before, self._of, now_s = self._of, {}, snapshot.time_s
        job = [each.cgroup_id for each in snapshot.jobs for _ in each.processes]
        held, ran = snapshot.movable_bytes.sum(axis=1).tolist(), cores.sum(axis=1).tolist()
        for key, of, node, bytes_, used in zip(snapshot.row_of, job, home.tolist(), held, ran, strict=True):
            known = before.pop(key, None) or _History(of, now_s, bytes_, node, now_s, cores=used)
            self._of[key] = known if node == NO_EVIDENCE else _went_on(known, node, used, now_s)
        self._learn_of(before.values(), now_s)
        self._lives_s = {of: self._lives_s[of] for of in self._lives_s.keys() & {*job}}

    def _learn_of(self, gone: Iterable[_History], now_s: float) -> None:
        for each in gone:
            lived_s = min(now_s - each.first_s, LONGEST_S)
            self._lives_s[each.job] = (self._lives_s.get(each.job, lived_s) + lived_s) / 2

    def rows(self, offers: Candidates, snapshot: Snapshot, cores: Floats) -> Floats:
        """Give the features of each candidate."""
        on, row, keys = snapshot.topology, offers.process, list(snapshot.row_of)
        known = [self._of[keys[each]] for each in row.tolist()]
        expected = offers.saving_ns_per_s(on) * offers.confidence
        columns = {
            "remote_share": offers.remote_share,
            "remote_mb": offers.bytes_ / _MB,
            "confidence": offers.confidence,
            "payback_s": np.minimum(offers.cost_ns / np.maximum(expected, 1e-9), 10 * LONGEST_S),
            "cores": cores[row].sum(axis=1),
            "home_cpu_share": cores[row].max(axis=1, initial=0) / np.maximum(cores[row].sum(axis=1), 1e-9),
            **_of_processes(snapshot, row),
            **_of_histories(known, snapshot.time_s),
            **self._left(known, snapshot.time_s),
        }
        busy_share = cores.sum(axis=0) / np.maximum(on.cpus_by_node, 1)
        columns["target_cpu_share"] = busy_share[offers.target]
        columns["cpu_trend"] = columns["cores"] / np.maximum([each.cores for each in known], 1e-3)
        held = snapshot.movable_bytes.sum(axis=1)[row]
        columns["grown_share"] = np.minimum(
            held / np.maximum([each.first_bytes for each in known], _MB), MOST
        )
        rows: Floats = np.column_stack([columns[name] for name in NAMES])
        return rows

    def _left(self, known: list[_History], now_s: float) -> Mapping[str, Floats]:
        """Give how long it would stay yet and live yet, if as long as before and as others of its job; below 0, it outlasts them."""
        stays = [each.stay_s - (now_s - each.since_s) if each.turns else LONGEST_S for each in known]
        lives = [self._lives_s.get(each.job, np.inf) - (now_s - each.first_s) for each in known]
        left = np.clip(np.array([stays, lives], np.float64), -LONGEST_S, LONGEST_S)
        return dict(zip(("stay_left_s", "life_left_s"), left, strict=True))


def _went_on(known: _History, node: int, used: float, now_s: float) -> _History:
    several = _REMEMBERS * known.several_share + (1 - _REMEMBERS) * (node < 0)
    cores = _REMEMBERS * known.cores + (1 - _REMEMBERS) * used
    known = known._replace(several_share=several, cores=cores, looks=known.looks + 1)
    if node == known.home:
        return known
    stayed_s, turned = now_s - known.since_s, known.home != NO_EVIDENCE
    known = known._replace(home=node, since_s=now_s, looks=1)
    if not turned:
        return known
    stay_s = (known.stay_s + stayed_s) / 2 if known.turns else stayed_s
    return known._replace(turns=known.turns + 1, last_stay_s=stayed_s, stay_s=stay_s)


def _of_processes(snapshot: Snapshot, row: Ints) -> Mapping[str, Floats]:
    siblings = [len(job.processes) for job in snapshot.jobs for _ in job.processes]
    every = [
        (float(len(process.threads.tid)), float(many), min(process.placement_age_s, LONGEST_S))
        for process, many in zip(snapshot.processes, siblings, strict=True)
    ]
    columns = np.array(every, np.float64).reshape(-1, 3)[row].T
    return dict(zip(("threads", "siblings", "placement_age_s"), columns, strict=True))


def _of_histories(known: list[_History], now_s: float) -> Mapping[str, Floats]:
    every = [
        (
            min(now_s - each.first_s, LONGEST_S),
            min(now_s - each.since_s, LONGEST_S),
            min(each.looks, MOST),
            min(each.turns, MOST),
            min(each.last_stay_s, LONGEST_S),
            each.several_share,
        )
        for each in known
    ]
    names = ("known_s", "steady_s", "looks", "turns", "last_stay_s", "several_share")
    return dict(zip(names, np.array(every, np.float64).reshape(-1, len(names)).T, strict=True))
