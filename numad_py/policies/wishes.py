# SPDX-License-Identifier: Apache-2.0

"""What should be moved of one process, wherever to: what is expected of it, its figures, and the moves themselves."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from numad_py.model import MovePages, Process, ProcessKey, Reason, Regions, Snapshot
from numad_py.policies.candidates import Candidates
from numad_py.policies.shards import Shards
from numad_py.topology import Floats, Topology

LONGEST_S: Final = 1e9
MB: Final = 1 << 20


class Wish(NamedTuple):
    """What should be moved of one process, and what is expected of it; ``told`` by an investigation, ``learned`` by a model."""

    targets: tuple[int, ...]
    told: bool
    remote_bytes: int
    remote_share: float
    saving_ns_per_s: float
    cost_ns: float
    confidence: float
    learned: bool = False

    def joined(self, other: "Wish") -> "Wish":
        """Add another target of the same process."""
        return Wish(
            (*self.targets, *other.targets),
            self.told,
            self.remote_bytes + other.remote_bytes,
            self.remote_share + other.remote_share,
            self.saving_ns_per_s + other.saving_ns_per_s,
            self.cost_ns + other.cost_ns,
            min(self.confidence, other.confidence),
            self.learned and other.learned,
        )

    @property
    def payback_s(self) -> float:
        """After how long it has paid for itself."""
        return min(self.cost_ns / max(self.saving_ns_per_s * self.confidence, 1e-9), LONGEST_S)


class Evidence(NamedTuple):
    """What is known of one wish so far; ``restless`` counts the looks at which it was another or none, the last most."""

    targets: tuple[int, ...] = ()
    looks: int = 0
    acting: bool = False
    restless: float = 0.0


UNKNOWN: Final = Evidence()
Weigh = Callable[[Evidence, Wish | None], Evidence]


class Seen(NamedTuple):
    """What was seen of one process when its CPU time was last read."""

    cpu_s: Floats
    busiest_share: float  # of what a node's CPUs can give
    wish: Wish | None


def wishes(offers: Candidates, parts: Mapping[int, Shards], on: Topology) -> dict[int, Wish]:
    """Give by row of its process what should be moved, wherever to."""
    found: dict[int, Wish] = {}
    columns = (
        offers.bytes_,
        offers.remote_share,
        offers.saving_ns_per_s(on),
        offers.cost_ns,
        offers.confidence,
        offers.learned,
    )
    rows = zip(*(column.tolist() for column in (offers.process, offers.target, *columns)), strict=True)
    for row, target, *figures in rows:
        wish = Wish((on.nodes[target].id,), row in parts, *figures)
        found[row] = found[row].joined(wish) if row in found else wish
    return found


def figures_of(seen: Seen, looks: int) -> dict[str, float]:
    """Give what decides of one process, by name."""
    used_s = float(seen.cpu_s.sum())
    figures = {
        "cpu_s": used_s,
        "home_cpu_share": float(seen.cpu_s.max()) / used_s if used_s else 0.0,
        "node_cpu_share": seen.busiest_share,
    }
    wish = seen.wish
    if wish:
        figures |= {
            "remote_share": wish.remote_share,
            "remote_mb": wish.remote_bytes / MB,
            "saving_ns_per_s": wish.saving_ns_per_s,
            "cost_ns": wish.cost_ns,
            "confidence": wish.confidence,
            "payback_s": wish.payback_s,
        }
    return figures | {"looks": looks}


def apart(key: ProcessKey, whole: Snapshot, rest: Snapshot) -> tuple[str, ...]:
    """Say how much of a process is shared within its job, and so decided on apart."""
    with_, without = (each.processes[each.row_of[key]].regions.resident_bytes.sum() for each in (whole, rest))
    if with_ == without:
        return ()
    shared_mb = (with_ - without) / MB
    return (
        f"{shared_mb:.1f} MB that its job shares are not in these figures: they are decided part by part",
    )


def bring(process: Process, parts: Shards | None, offer: Candidates, bytes_: int, on: Topology) -> MovePages:
    """Wish for so many bytes of an offer, of the parts that belong to its target if any are told, or else of all."""
    leaving, target, regions = offer.leaving[0], int(offer.target[0]), process.regions
    ranges: Shards | Regions = parts or regions
    away = parts.bytes_ * (parts.home == target)[:, None] if parts else regions.resident_bytes
    chosen = away[:, leaving > 0].any(axis=1) & (True if parts else regions.movable)
    private = regions.movable & (regions.mapmax <= 1)
    touched = regions.resident_bytes[:, leaving > 0].any(axis=1)
    return MovePages(
        process.key,
        ranges.start[chosen],
        ranges.end[chosen],
        ranges.page_bytes[chosen],
        sources=tuple(node.id for node, much in zip(on.nodes, leaving.tolist(), strict=True) if much),
        targets=(on.nodes[target].id,),
        limit_bytes=bytes_,
        reason=Reason.MEMORY_FOLLOWS_CPU,
        whole=not parts and bytes_ == int(leaving.sum()) and bool(private[touched].all()),
    )
