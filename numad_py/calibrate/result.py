# SPDX-License-Identifier: Apache-2.0

"""Make a machine file of what was measured, and say how sure it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from numad_py.calibrate.figures import Quantity
from numad_py.calibrate.site import Site
from numad_py.calibrate.sweep import Found, Pair
from numad_py.kernel.hypervisor import Host
from numad_py.machines import Bandwidth, Known, LoadedLatency, MachineFile, Matrix, Measured

DOUBTFUL_SPREAD: Final = 0.1
DOUBTFUL_COMPANY: Final = 0.05
DOUBTFUL_HUGE: Final = 0.9


@dataclass(frozen=True)
class Circumstances:
    """Where and when it was measured; ``others_share`` is the CPU time that others used meanwhile.

    ``verified_events`` is the row of events that told local from remote, if one did.
    """

    at: str
    by: str
    kernel: str
    host: Host
    others_share: float
    verified_events: str = ""


def machine_file(
    found: Found, site: Site, when: Circumstances, move_ns: Mapping[int, float], call_ns: int | None
) -> MachineFile:
    """Give what a simulation reads of this machine."""
    spread = {str(quantity): _spreads(found, quantity, site) for quantity in found.figures}
    virtual = f", in a virtual machine ({when.host.signature})" if when.host.virtual else ""
    return MachineFile(
        source=f"{when.by}, {when.at}, Linux {when.kernel}, {when.host.cpu}{virtual}",
        latency_ns=latency_matrix(_medians(found, Quantity.LATENCY, 1), site.topology.node_ids),
        move_ns={str(size): round(price, 1) for size, price in move_ns.items()},
        call_ns=call_ns,
        bandwidth=_bandwidth(found, site, Quantity.READ, Quantity.WRITE, Quantity.COPY),
        bandwidth_together=_bandwidth(
            found, site, Quantity.READ_TOGETHER, Quantity.WRITE_TOGETHER, Quantity.COPY_TOGETHER
        ),
        loaded_latency=tuple(_loaded(found)),
        measured=Measured(
            at=when.at,
            by=when.by,
            kernel=when.kernel,
            cpu=when.host.cpu,
            hypervisor=when.host.signature,
            nodes=site.topology.node_ids,
            spread_share=spread,
            doubts=(*site.doubts, *_doubts(found, site, when)),
            verified_events=when.verified_events,
        ),
    )


def latency_matrix(known: Mapping[Pair, float], nodes: tuple[int, ...]) -> Matrix:
    """Give a figure for every pair, as the file needs.

    Where nothing can be measured the way back stands in; without that, the best figure for a node with
    itself, and the worst for two nodes.
    """

    def stand_in(a: int, b: int) -> float:
        return known.get((b, a), min(known.values()) if a == b else max(known.values()))

    return tuple(tuple(known.get((a, b)) or stand_in(a, b) for b in nodes) for a in nodes)


def _doubts(found: Found, site: Site, when: Circumstances) -> Iterator[str]:
    if when.host.virtual:
        yield "measured in a virtual machine: its nodes and caches are what its host says, and its host may do other work"
    if when.others_share > DOUBTFUL_COMPANY:
        yield f"others used {when.others_share:.0%} of the CPU time meanwhile: measure again when they are quiet"
    for node, share in found.huge_share.items():
        if share < DOUBTFUL_HUGE:
            yield f"node {node}: {share:.0%} of the memory was in huge pages, so latency includes address translation"
    for quantity, by_pair in found.figures.items():
        wide = {
            pair: each.spread_share for pair, each in by_pair.items() if each.spread_share > DOUBTFUL_SPREAD
        }
        if wide:
            yield f"{quantity}: the repetitions of {len(wide)} of {len(by_pair)} pairs spread by up to {max(wide.values()):.0%}"
    missing = len(site.topology.nodes) ** 2 - len(found.figures[Quantity.LATENCY])
    if missing:
        yield f"latency_ns: {missing} figures could not be measured and repeat others"


def _bandwidth(found: Found, site: Site, *quantities: Quantity) -> Bandwidth:
    return Bandwidth(*(_matrix(_medians(found, each, 2), site) for each in quantities))


def _medians(found: Found, quantity: Quantity, digits: int) -> dict[Pair, float]:
    by_pair = found.figures.get(quantity, {})
    return {pair: round(each.median, digits) for pair, each in by_pair.items()}


def _spreads(found: Found, quantity: Quantity, site: Site) -> Known:
    by_pair = found.figures[quantity]
    return _matrix({pair: round(each.spread_share, 3) for pair, each in by_pair.items()}, site)


def _matrix(by_pair: Mapping[Pair, float], site: Site) -> Known:
    nodes = site.topology.node_ids
    return tuple(tuple(by_pair.get((a, b)) for b in nodes) for a in nodes) if by_pair else ()


def _loaded(found: Found) -> Iterator[LoadedLatency]:
    for (initiator, target), loads in found.loads.items():
        yield LoadedLatency(
            initiator,
            target,
            tuple(round(load.gb_per_s, 2) for load in loads),
            tuple(round(load.latency_ns.median, 1) for load in loads),
        )
