# SPDX-License-Identifier: Apache-2.0

"""Which raw events tell local from remote DRAM, by vendor and generation.

Problem: no event means the same on two generations. The kernel's own node-loads
and node-load-misses are no way out: AMD Zen has neither, and on Intel loads are
all DRAM accesses up to Sandy Bridge, local ones alone from Haswell on.

Primitive: each core can count cache lines by the memory that supplied them.

Application: one row per generation. Where a core offers it, lines that a
prefetcher fetched are counted too: they use the links and the memory as the
others do, and a job that reads in order fetches hardly a line in any other way.
So Intel's offcore responses are counted and not MEM_LOAD_L3_MISS_RETIRED, which
tells retired loads only and, with sub-NUMA clusters, does not tell the
neighbouring cluster's memory from the own.

A row holds what its source says of the generation, not what this machine does:
until a calibration has verified it here, it is to be shown and not decided on.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from numad_py.kernel.cpu_model import ARM, Cpu
from numad_py.kernel.perf_events import TYPE_RAW, Event

LINE_BYTES: Final = 64  # what one count fetches, on every CPU of the table
RIGHT_SHARE: Final = 0.9
FEWEST_COUNTS: Final = 1000  # fewer could be anybody's, whatever their share


class Models(NamedTuple):
    """A range of models of one vendor's family; both ends are in it."""

    vendor: str
    family: int
    first: int
    last: int


class Counts(NamedTuple):
    """DRAM accesses, or cache lines, that one run counted."""

    local: float
    remote: float


@dataclass(frozen=True)
class Row:
    """What one generation's cores count.

    ``local_is_all`` says that ``local`` counts remote accesses too. ``stalls`` counts cycles in which
    the core waited for loads; of DRAM alone where ``stalls_of_dram`` says so, else of some caches too.
    ``prefetched`` says that prefetched lines count.
    """

    name: str
    models: tuple[Models, ...]
    local: Event
    remote: Event
    stalls: Event | None
    remote_means: str
    source: str
    prefetched: bool = True
    local_is_all: bool = False
    stalls_of_dram: bool = False

    @property
    def events(self) -> tuple[Event, ...]:
        """The raw events of the row."""
        return (self.local, self.remote, *([self.stalls] if self.stalls else []))

    def counts(self, local: float, remote: float) -> Counts:
        """Give what the two events' counts mean."""
        return Counts(max(local - remote, 0.0) if self.local_is_all else local, remote)


def verified(local_run: Counts, remote_run: Counts) -> bool:
    """Say whether a row tells local from remote here.

    The two runs chased pointers through memory of the own node, then of another; nine tenths of
    the counts must have fallen on the right side each time.
    """
    right = (local_run.local, remote_run.remote)
    return all(
        sum(run) >= FEWEST_COUNTS and count >= RIGHT_SHARE * sum(run)
        for count, run in zip(right, (local_run, remote_run), strict=True)
    )


def row_of(cpu: Cpu) -> Row | None:
    """Give the row of a CPU; None where the table has none."""
    return next((row for row in ROWS if any(_is_in(cpu, models) for models in row.models)), None)


def _is_in(cpu: Cpu, models: Models) -> bool:
    same = (cpu.vendor, cpu.family) == (models.vendor, models.family)
    return same and models.first <= cpu.model <= models.last


def _intel(*models: int) -> tuple[Models, ...]:
    return tuple(Models("GenuineIntel", 6, model, model) for model in models)


def _amd(family: int, *ranges: tuple[int, int]) -> tuple[Models, ...]:
    return tuple(Models("AuthenticAMD", family, first, last) for first, last in ranges)


def _arm(part: int) -> tuple[Models, ...]:
    return (Models(ARM, 8, part, part),)


def _raw(name: str, event: int, umask: int = 0, *, cmask: int = 0, offcore: int = 0) -> Event:
    """Give a raw event; ``offcore`` is what MSR_OFFCORE_RSP is to hold, which the kernel takes as config1.

    A core has two such registers, shared by its threads, so that one row fills them.
    """
    return Event(name, TYPE_RAW, cmask << 24 | umask << 8 | event, offcore)


_STALLS_L3_MISS: Final = _raw("CYCLE_ACTIVITY.STALLS_L3_MISS", 0xA3, 0x06, cmask=6)
_MEMORY_STALLS_L3_MISS: Final = _raw("MEMORY_ACTIVITY.STALLS_L3_MISS", 0x47, 0x09, cmask=9)
_ZEN4_STALLS: Final = _raw("ex_no_retire.load_not_complete", 0xD6, 0xA2)
_STALL_BACKEND_MEM: Final = _raw("STALL_BACKEND_MEM", 0x4005)
_LL_CACHE_MISS_RD: Final = _raw("LL_CACHE_MISS_RD", 0x37)
_REMOTE_ACCESS: Final = _raw("REMOTE_ACCESS", 0x31)

_OTHER_SOCKET: Final = "another socket"
_OTHER_CHIP: Final = "another chip, its caches included; local is all last-level misses less these"
_ANY_NODE: Final = "another socket, or another sub-NUMA cluster of this one"
_FAR: Final = "another NUMA node, on this socket (NPS2, NPS4) or another, its I/O included"

_PERFMON: Final = "intel/perfmon 6dadedf3aa48"
_PMU_EVENTS: Final = "Linux tools/perf/pmu-events/arch"

# Models are those of Linux arch/x86/kernel/cpu/amd.c bsp_init_amd() and of perfmon's mapfile.csv.
ROWS: Final = (
    Row(
        "Broadwell",
        _intel(0x4F),
        _raw("OFFCORE_RESPONSE.ALL_DATA_RD.LLC_MISS.LOCAL_DRAM", 0xB7, 0x01, offcore=0x6_0400_0091),
        _raw("OFFCORE_RESPONSE.ALL_DATA_RD.LLC_MISS.REMOTE_DRAM", 0xBB, 0x01, offcore=0x6_3BC0_0091),
        _raw("CYCLE_ACTIVITY.STALLS_L2_MISS", 0xA3, 0x05, cmask=5),  # there is none for the L3
        _OTHER_SOCKET + "; with cluster-on-die the other cluster's memory may count as local",
        f"{_PERFMON} BDX/events/broadwellx_core.json V23",
    ),
    Row(
        "Skylake, Cascade Lake, Cooper Lake",
        _intel(0x55),
        _raw("OFFCORE_RESPONSE.ALL_DATA_RD.L3_MISS_LOCAL_DRAM", 0xB7, 0x01, offcore=0x6_0400_0491),
        _raw("OFFCORE_RESPONSE.ALL_DATA_RD.L3_MISS_REMOTE_DRAM", 0xBB, 0x01, offcore=0x6_3B80_0491),
        _STALLS_L3_MISS,
        _ANY_NODE,
        f"{_PERFMON} SKX/events/skylakex_core.json V1.37",
        stalls_of_dram=True,
    ),
    Row(
        "Ice Lake",
        _intel(0x6A, 0x6C),
        _raw("OCR.READS_TO_CORE.LOCAL_DRAM", 0xB7, 0x01, offcore=0x1_0400_0477),
        # REMOTE_DRAM (0x730000477) and SNC_DRAM (0x708000477) together.
        _raw("OCR.READS_TO_CORE.REMOTE_DRAM+SNC_DRAM", 0xBB, 0x01, offcore=0x7_3800_0477),
        _STALLS_L3_MISS,
        _ANY_NODE,
        f"{_PERFMON} ICX/events/icelakex_core.json V1.30",
        stalls_of_dram=True,
    ),
    Row(
        "Sapphire Rapids, Emerald Rapids, Granite Rapids",
        _intel(0x8F, 0xCF, 0xAD, 0xAE),
        _raw("OCR.READS_TO_CORE.LOCAL_DRAM", 0x2A, 0x01, offcore=0x1_0400_4477),
        _raw("OCR.READS_TO_CORE.REMOTE_DRAM+SNC_DRAM", 0x2B, 0x01, offcore=0x7_3800_4477),
        _MEMORY_STALLS_L3_MISS,
        _ANY_NODE,
        f"{_PERFMON} SPR V1.39, EMR V1.24, GNR V1.20 (which lists no SNC_DRAM)",
        stalls_of_dram=True,
    ),
    Row(
        "Sierra Forest",
        _intel(0xAF),
        _raw("OCR.DEMAND_DATA_RD.LOCAL_DRAM", 0xB7, 0x01, offcore=0x1_8400_0001),
        _raw("OCR.DEMAND_DATA_RD.REMOTE_DRAM", 0xB7, 0x02, offcore=0x7_3000_0001),
        _raw("MEM_BOUND_STALLS_LOAD.LLC_MISS", 0x34, 0x78),
        _OTHER_SOCKET,
        f"{_PERFMON} SRF/events/sierraforest_core.json V1.18",
        stalls_of_dram=True,
        prefetched=False,
    ),
    Row(
        "Zen 2",
        _amd(0x17, (0x30, 0x4F), (0x60, 0x7F), (0x90, 0x91), (0xA0, 0xAF)),
        _raw("ls_refills_from_sys.ls_mabresp_lcl_dram", 0x43, 0x08),
        _raw("ls_refills_from_sys.ls_mabresp_rmt_dram", 0x43, 0x40),
        None,
        _FAR,
        f"{_PMU_EVENTS}/x86/amdzen2/memory.json",
        prefetched=False,
    ),
    Row(
        "Zen 3",
        _amd(0x19, (0x00, 0x0F), (0x20, 0x5F)),
        _raw("ls_any_fills_from_sys.mem_io_local", 0x44, 0x08),
        _raw("ls_any_fills_from_sys.mem_io_remote", 0x44, 0x40),
        None,
        _FAR,
        f"{_PMU_EVENTS}/x86/amdzen3/memory.json",
    ),
    Row(
        "Zen 4",
        _amd(0x19, (0x10, 0x1F), (0x60, 0xAF)),
        _raw("ls_any_fills_from_sys.dram_io_near", 0x44, 0x08),
        _raw("ls_any_fills_from_sys.dram_io_far", 0x44, 0x40),
        _ZEN4_STALLS,
        _FAR,
        f"{_PMU_EVENTS}/x86/amdzen4/memory.json, core.json",
    ),
    Row(
        "Zen 5",
        _amd(0x1A, (0x00, 0x2F), (0x40, 0x4F), (0x70, 0x7F)),
        _raw("ls_any_fills_from_sys.dram_io_near", 0x44, 0x08),
        _raw("ls_any_fills_from_sys.dram_io_far", 0x44, 0x40),
        _ZEN4_STALLS,
        _FAR,
        f"{_PMU_EVENTS}/x86/amdzen5/load-store.json, pipeline.json; stalls coded as on Zen 4",
    ),
    Row(
        "Neoverse N1",
        _arm(0xD0C),
        _LL_CACHE_MISS_RD,
        _REMOTE_ACCESS,
        None,  # STALL_BACKEND is not told by cause
        _OTHER_CHIP,
        f"{_PMU_EVENTS}/arm64/arm/neoverse-n1",
        local_is_all=True,
    ),
    Row(
        "Neoverse V1, N2, V2, Grace",
        _arm(0xD40) + _arm(0xD49) + _arm(0xD4F),
        _LL_CACHE_MISS_RD,
        _REMOTE_ACCESS,
        _STALL_BACKEND_MEM,
        _OTHER_CHIP + "; Grace's own nvidia_scf_pmu counts sockets, never jobs",
        f"{_PMU_EVENTS}/arm64/arm/neoverse-n2-v2, neoverse-v1",
        local_is_all=True,
    ),
)
