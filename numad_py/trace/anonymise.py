# SPDX-License-Identifier: Apache-2.0

"""Take from a trace what would tell whose it is, and keep what a replay needs.

Names become keyed hashes, so that equal names stay equal; PIDs, TIDs and cgroup
ids become small numbers in the order in which they turn up; each process's
addresses are shifted by a whole number of GiB of its own, which keeps their
order, their distances, and the alignment that huge pages depend on. The
secret is never written: without it neither a name can be tried nor a shift undone.
"""

import re
from collections.abc import Hashable
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from numad_py.model import (
    Accesses,
    Job,
    MovePages,
    Outcome,
    Plan,
    Process,
    ProcessKey,
    Regions,
    Skipped,
    Tick,
)
from numad_py.topology import Addresses, Ints
from numad_py.trace.header import Header

_GIB = 1 << 30
# 2^22 GiB and any address below 2^52 stay under 2^53, where readers that take numbers for doubles are exact.
_SHIFTS = 1 << 22
_END = 1 << 63


class Anonymiser:
    """Anonymises one run; ``kept_profiles`` are names that tell nothing, as they ship with numad-py."""

    def __init__(self, secret: bytes, kept_profiles: frozenset[str] = frozenset()) -> None:
        self._secret = secret
        self._kept_profiles = kept_profiles
        self._numbers: dict[tuple[str, Hashable], int] = {}

    def header(self, header: Header) -> Header:
        """Keep the machine's shape; hide which machine, and when."""
        kernel = re.match(r"\d+(\.\d+)*", header.kernel, re.ASCII)
        return replace(
            header,
            kernel=kernel[0] if kernel else "",
            boot_id=self._name(header.boot_id),
            started_unix_s=0.0,
            anonymised=True,
        )

    def tick(self, tick: Tick) -> Tick:
        """Give the tick without names, ids and addresses; equal ones stay equal all through the run."""
        snapshot = replace(
            tick.snapshot,
            jobs=tuple(self._job(job) for job in tick.snapshot.jobs),
            skipped=tuple(self._skipped(skipped) for skipped in tick.snapshot.skipped),
            cost=replace(tick.snapshot.cost, postponed=tuple(map(self._key, tick.snapshot.cost.postponed))),
        )
        held = tuple(replace(held, process=self._key(held.process)) for held in tick.plan.held)
        answered = zip(tick.outcomes, tick.plan.moves, strict=True)
        tasks = zip(tick.task_outcomes, tick.plan.task_moves, strict=False)  # older traces do not answer them
        return Tick(
            snapshot,
            Plan(
                tuple(self._move(move) for move in tick.plan.moves),
                held,
                tuple(replace(move, process=self._key(move.process)) for move in tick.plan.task_moves),
                tuple(
                    replace(judged, cgroup_id=self._number("cgroup", judged.cgroup_id))
                    for judged in tick.plan.judged
                ),
            ),
            tuple(self._outcome(outcome, move.process) for outcome, move in answered),
            tuple(self._outcome(outcome, move.process) for outcome, move in tasks),
        )

    def _job(self, job: Job) -> Job:
        kept = job.profile in self._kept_profiles
        return replace(
            job,
            cgroup_id=self._number("cgroup", job.cgroup_id),
            path="/".join(self._name(part) for part in job.path.split("/")),
            profile=job.profile if kept else self._name(job.profile),
            processes=tuple(self._process(process) for process in job.processes),
        )

    def _process(self, process: Process) -> Process:
        key, threads, regions = process.key, process.threads, process.regions
        return replace(
            process,
            key=self._key(key),
            comm=self._name(process.comm),
            threads=replace(threads, tid=self._tids(threads.tid)),
            accesses=process.accesses and self._accesses(process.accesses, key),
            regions=replace(
                regions,
                start=self._shifted(regions.start, key),
                end=self._shifted(regions.end, key),
                offset=self._offsets(regions),
            ),
        )

    def _offsets(self, regions: Regions) -> Ints:
        """Shift what may be addresses, by the same for all who share a backing."""
        if not regions.backing.any():
            return regions.offset
        pairs = zip(regions.backing.tolist(), regions.offset.tolist(), strict=True)
        shifted = ((at + self._drawn(f"backing {backing}")) % _END if backing else 0 for backing, at in pairs)
        return np.fromiter(shifted, np.int64, len(regions))

    def _accesses(self, accesses: Accesses, key: ProcessKey) -> Accesses:
        return replace(
            accesses,
            groups=tuple(replace(group, tid=self._tids(group.tid)) for group in accesses.groups),
            start=self._shifted(accesses.start, key),
            end=self._shifted(accesses.end, key),
        )

    def _skipped(self, skipped: Skipped) -> Skipped:
        return Skipped(self._key(skipped.process), self._name(skipped.comm), self._name(skipped.why))

    def _move(self, move: MovePages) -> MovePages:
        key = move.process
        return replace(
            move,
            process=self._key(key),
            start=self._shifted(move.start, key),
            end=self._shifted(move.end, key),
            among=tuple(map(self._key, move.among)),
        )

    def _outcome(self, outcome: Outcome, key: ProcessKey) -> Outcome:
        return replace(
            outcome,
            stayed_start=self._shifted(outcome.stayed_start, key),
            stayed_end=self._shifted(outcome.stayed_end, key),
            reached=outcome.reached and outcome.reached + self._shift(key),  # 0 says nowhere
            detail=self._name(outcome.detail),
        )

    def _key(self, key: ProcessKey) -> ProcessKey:
        return ProcessKey(self._number("process", key), 0)

    def _tids(self, tids: Ints) -> Ints:
        return np.array([self._number("thread", tid) for tid in tids.tolist()], np.int64)

    def _number(self, kind: str, key: Hashable) -> int:
        return self._numbers.setdefault((kind, key), len(self._numbers) + 1)

    def _name(self, name: str) -> str:
        return self._hash(name.encode("utf-8", "surrogateescape"), 6).hex() if name else ""

    def _shifted(self, addresses: Addresses, key: ProcessKey) -> Addresses:
        return addresses + np.uint64(self._shift(key))

    def _shift(self, key: ProcessKey) -> int:
        return self._drawn(f"address {key.pid} {key.start_ticks}")

    def _drawn(self, name: str) -> int:
        return (1 + int.from_bytes(self._hash(name.encode(), 8)) % _SHIFTS) * _GIB

    def _hash(self, data: bytes, digest_bytes: int) -> bytes:
        return blake2b(data, digest_size=digest_bytes, key=self._secret).digest()
