# SPDX-License-Identifier: Apache-2.0

"""What can tell which addresses threads touch: hint faults, Intel's PEBS, AMD's IBS.

Of these only hint faults were seen live, in guests; the hardware samplers are tested on bytes made after
the kernel's headers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.kernel import ibs
from numad_py.kernel.perf_events import PAGE_FAULTS, TYPE_RAW, Event, Field
from numad_py.kernel.perf_ring import Samples
from numad_py.model import AccessSource
from numad_py.sense.investigate.sampling_rate import Rate
from numad_py.topology import Bools

_WHO: Final = (
    Field.TID | Field.TIME | Field.ADDR | Field.CPU
)  # without TIME, nothing tells when an event went blind


@dataclass(frozen=True)
class Source:
    """An event to sample, which of its samples are accesses to memory, and what it costs who is sampled.

    ``counted_s`` is lost at each event while one is open, ``sampled_s`` at each sample besides.
    """

    kind: AccessSource
    event: Event
    fields: Field
    rate: Rate
    counted_s: float
    sampled_s: float
    accessed: Callable[[Samples], Bools]
    precise_ip: int = 0
    raw_bytes: int = 0


def is_hint_fault(samples: Samples) -> Bools:
    """Tell hint faults from first touches, copies on write and faults of files and swap.

    The sample is taken before the fault is handled, so that it tells what the page table held: a page
    (its size), but none that may be read (no physical address), is one that the kernel has made to
    fault. A page that is not there yet has no size, one to be copied on write a physical address.
    """
    # perf_get_pgtable_size() in kernel/events/core.c asks pte_present(), which is true of PROT_NONE pages;
    # perf_virt_to_phys() asks gup_fast_pte_range() in mm/gup.c, which refuses them. It refuses the zero page too,
    # so that the first write to a page that was only read before looks alike: regions without any resident page
    # are therefore left out, and the sum is held against numa_hint_faults.
    present: Bools = samples["page_bytes"] != 0
    readable: Bools = samples["physical_address"] != 0
    return present & ~readable


def _has_address(samples: Samples) -> Bools:
    has: Bools = samples["address"] != 0
    return has


def _is_ibs_access(samples: Samples) -> Bools:
    return ibs.decode(samples["raw"]).accessed


# The costs were measured with bench/page_fault_sampling.py (6.18, a Firecracker guest, 1,450 ns a fault), and rounded
# up: an open event that samples seldom adds 80 to 110 ns to every fault, and a sample 0.6 to 0.8 µs, or more when rare.
HINT_FAULTS: Final = Source(
    AccessSource.HINT_FAULTS,
    PAGE_FAULTS,
    # Since Linux commit 8d97e71811aa ("perf/core: Add PERF_SAMPLE_DATA_PAGE_SIZE") (in v5.11).
    _WHO | Field.PHYS_ADDR | Field.DATA_PAGE_SIZE,
    Rate(period=1, least=1, most=4096),
    counted_s=110e-9,
    sampled_s=1.5e-6,
    accessed=is_hint_fault,
)

# MEM_LOAD_RETIRED.L3_MISS: the same code from Broadwell to Emerald Rapids (pmu-events/arch/x86/*/cache.json).
# A sample is an interrupt of 2 µs or so, from papers, not measured; counting costs nothing.
PEBS: Final = Source(
    AccessSource.PEBS,
    Event("mem_load_retired.l3_miss", TYPE_RAW, 0x20D1),
    _WHO,
    Rate(period=1024, least=256, most=1 << 20),
    counted_s=0.0,
    sampled_s=2e-6,
    accessed=_has_address,
    precise_ip=2,
)

_COUNT_OPS: Final = (
    1 << 19
)  # cnt_ctl of IBS_OP_CTL: ops, not cycles, so that no op is tagged more often for being slow
_L3_MISS_ONLY: Final = 1 << 16


def available(root: Path = Path("/")) -> tuple[Source, ...]:
    """Give the sources that this machine has, the best first."""
    devices = root / "sys/bus/event_source/devices"
    found = [_ibs(devices / "ibs_op")] if (devices / "ibs_op").is_dir() else []
    if (devices / "cpu/events/mem-loads").exists():  # only Intel's CPUs with load latency have it
        found.append(PEBS)
    if _balancing(root):
        found.append(HINT_FAULTS)
    return tuple(found)


def _ibs(device: Path) -> Source:
    filtered = (device / "format/l3missonly").exists()  # Zen 4 and later
    config = _COUNT_OPS | (_L3_MISS_ONLY if filtered else 0)
    type_ = int((device / "type").read_text())
    # The period counts ops, filtered or not, and must be a multiple of 16: perf_ibs_init() in
    # arch/x86/events/amd/ibs.c.
    return Source(
        AccessSource.IBS,
        Event("ibs_op", type_, config),
        _WHO | Field.RAW,
        Rate(period=1 << 16, least=1 << 13, most=1 << 22),
        counted_s=0.0,
        sampled_s=2e-6,
        accessed=_is_ibs_access,
        raw_bytes=ibs.LEAST_BYTES,
    )


def _balancing(root: Path) -> bool:
    try:
        return (root / "proc/sys/kernel/numa_balancing").read_text().strip() != "0"
    except FileNotFoundError:
        return False
