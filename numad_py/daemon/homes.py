# SPDX-License-Identifier: Apache-2.0

"""Tell which memory is remote: follow from look to look where each process is at home."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from numad_py.model import Job, ProcessKey, Snapshot
from numad_py.topology import Bools, Ints, Topology


@dataclass(frozen=True, eq=False)
class Homes:
    """Where processes are at home; one that sleeps keeps the home it had.

    ``remote`` says by process and node whether memory there is remote to it; who never ran is missing.
    """

    topology: Topology | None = None
    remote: Mapping[ProcessKey, Bools] = field(default_factory=dict)

    def after(self, snapshot: Snapshot) -> "Homes":
        """Learn who ran where since the last look, and forget who is gone."""
        cpu_s, on = snapshot.cpu_s, snapshot.topology
        ran = np.flatnonzero(cpu_s.any(axis=1))
        if on is self.topology and not len(ran) and len(self.remote) <= len(snapshot.processes):
            return self
        remote = on.has_cpus & ~on.homes(cpu_s[ran])
        now = {snapshot.keys[row]: each for row, each in zip(ran.tolist(), remote, strict=True)}
        known = {**self.remote, **now} if on is self.topology else now
        if len(known) > len(snapshot.processes):
            known = {key: each for key, each in known.items() if key in snapshot.row_of}
        return Homes(on, known)

    def placed(self, job: Job, nodes: int) -> Ints:
        """Give the job's bytes by node: resident, of these the remote ones, and of these the movable ones."""
        placed = np.zeros((3, nodes), np.int64)
        for process in job.processes:
            # Not Regions.resident_bytes, which would keep an array for every process.
            resident = process.regions.page_bytes @ process.regions.pages
            remote = self.remote.get(process.key, False)
            placed += resident, resident * remote, process.regions.movable_bytes * remote
        return placed
