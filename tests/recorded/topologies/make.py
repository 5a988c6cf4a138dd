# SPDX-License-Identifier: Apache-2.0

"""Pack a machine's topology: ``python3 tests/recorded/topologies/make.py NAME FOLDER [TARGET]``, or without arguments the built ones.

FOLDER is the one above proc/ and sys/, such as / itself; the archive goes to TARGET, else beside this. What is packed is what numad-py
reads and no more. SOURCES.md beside this says where each archive comes from.
"""

import io
import re
import sys
import tarfile
from itertools import chain
from pathlib import Path

HERE = Path(__file__).parent
READ = (
    "proc/driver/nvidia/gpus/*/numa_status",
    "sys/bus/pci/devices/*/class",
    "sys/bus/pci/devices/*/numa_node",
    "sys/bus/pci/devices/*/vendor",
    "sys/devices/system/cpu/isolated",
    "sys/devices/system/cpu/nohz_full",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index*/level",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index*/shared_cpu_list",
    "sys/devices/system/cpu/cpu[0-9]*/topology/core_siblings_list",
    "sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list",
    "sys/devices/system/node/has_cpu",
    "sys/devices/system/node/has_memory",
    "sys/devices/system/node/online",
    "sys/devices/system/node/node[0-9]*/access[01]/initiators/read_*",
    "sys/devices/system/node/node[0-9]*/cpulist",
    "sys/devices/system/node/node[0-9]*/distance",
    "sys/devices/system/node/node[0-9]*/meminfo",
    "sys/devices/virtual/memory_tiering/memory_tier*/nodelist",
)
INTERESTING = re.compile(r"0x(02|03|12|0c06)")  # classes of PCI devices: the others are read no further


def pack(name, files, target=HERE):
    """Write an archive that is the same whenever it is made of the same files."""
    with tarfile.open(target / f"{name}.tar.xz", "w:xz", preset=9) as archive:
        for path, text in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))


def recorded(folder):
    """Read what numad-py would read of a machine, live or dumped."""
    paths = chain.from_iterable(folder.glob(pattern) for pattern in READ)
    files = {
        str(path.relative_to(folder)): path.read_bytes().rstrip(b"\0") for path in paths if path.is_file()
    }  # dumps are padded
    dull = {
        path
        for path, text in files.items()
        if path.endswith("/class") and not INTERESTING.match(text.decode())
    }
    return {
        path: text
        for path, text in files.items()
        if "/pci/" not in path or path.rpartition("/")[0] + "/class" not in dull
    }


def built(nodes, distances, *, sockets, llcs, cores, numa_status=None):
    """Build the files of a machine from published figures: ``nodes`` are (CPUs, MB), groups are lists of CPUs."""
    files, cpus = {}, sorted(cpu for own, _ in nodes for cpu in own)
    node, cpu_ = "sys/devices/system/node", "sys/devices/system/cpu"
    files[f"{node}/online"] = listed(range(len(nodes)))
    files[f"{node}/has_cpu"] = listed(id_ for id_, (own, _) in enumerate(nodes) if own)
    files[f"{node}/has_memory"] = listed(id_ for id_, (_, mb) in enumerate(nodes) if mb)
    files[f"{cpu_}/online"] = listed(cpus)
    for id_, (own, mb) in enumerate(nodes):
        files[f"{node}/node{id_}/cpulist"] = listed(own)
        files[f"{node}/node{id_}/distance"] = " ".join(map(str, distances[id_])) + "\n"
        files[f"{node}/node{id_}/meminfo"] = f"Node {id_} MemTotal:       {mb << 10} kB\n"
    for name, groups in (
        ("topology/core_siblings_list", sockets),
        ("topology/thread_siblings_list", cores),
        ("cache/index3/shared_cpu_list", llcs),
    ):
        for group in groups:
            files |= {f"{cpu_}/cpu{cpu}/{name}": listed(group) for cpu in group}
    files |= {f"{cpu_}/cpu{cpu}/cache/index3/level": "3\n" for group in llcs for cpu in group}
    for address, id_ in (numa_status or {}).items():
        files[f"proc/driver/nvidia/gpus/{address}/numa_status"] = f"Node:      {id_}\nStatus:    online\n"
    return {path: text.encode() for path, text in files.items()}


def listed(ids):
    """Write ids as the kernel does, but without ranges, which it reads too."""
    return ",".join(map(str, ids)) + "\n"


def runs(*lengths, first=0):
    """Cut consecutive numbers into runs of these lengths."""
    ends = [first + sum(lengths[: count + 1]) for count in range(len(lengths))]
    return [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]


def with_siblings(groups, cores):
    """Add to each CPU its SMT sibling, which Linux numbers behind all first threads."""
    return [[*group, *(cpu + cores for cpu in group)] for group in groups]


def two_level(nodes, own, near, far, per_socket):
    """Give distances: ``near`` within a socket, ``far`` between sockets."""
    ids = range(nodes)
    return [
        [own if a == b else near if a // per_socket == b // per_socket else far for b in ids] for a in ids
    ]


def epyc_nps1():
    """Two EPYC 9375F: 32 cores in CCXs of four, SMT off, one node a socket."""
    sockets = runs(32, 32)
    return built(
        list(zip(sockets, (773271, 774028), strict=True)),
        [[10, 32], [32, 10]],
        sockets=sockets,
        llcs=runs(*[4] * 16),
        cores=runs(*[1] * 64),
    )


def epyc_four_nodes_a_socket():
    """Two EPYC 7551: four dies a socket, each a node of two CCXs of four cores; memory on two dies only."""
    dies = with_siblings(runs(*[8] * 8), 64)
    return built(
        [(cpus, {1: 15960, 5: 16060}.get(id_, 0)) for id_, cpus in enumerate(dies)],
        two_level(8, 10, 16, 32, 4),
        sockets=with_siblings(runs(32, 32), 64),
        llcs=with_siblings(runs(*[4] * 16), 64),
        cores=with_siblings(runs(*[1] * 64), 64),
    )


def xeon_snc4():
    """Two Xeons of 56 cores with sub-NUMA clustering by four: one last-level cache spans four nodes."""
    sockets = with_siblings(runs(56, 56), 112)
    return built(
        [(cpus, 32256) for cpus in with_siblings(runs(*[14] * 8), 112)],
        two_level(8, 10, 12, 21, 4),
        sockets=sockets,
        llcs=sockets,
        cores=with_siblings(runs(*[1] * 112), 112),
    )


def xeon_cxl():
    """Two Xeons of 52 cores, each with a CXL memory expander."""
    sockets = with_siblings(runs(52, 52), 104)
    return built(
        [(sockets[0], 64167), (sockets[1], 64472), ([], 65536), ([], 131072)],
        [[10, 21, 14, 24], [21, 10, 24, 14], [14, 24, 10, 26], [24, 14, 26, 10]],
        sockets=sockets,
        llcs=sockets,
        cores=with_siblings(runs(*[1] * 104), 104),
    )


def grace_hopper():
    """One Grace Hopper: 72 cores, and eight nodes of the GPU, the first with its memory."""
    (cpus,) = runs(72)
    return built(
        [(cpus, 489935), ([], 97280), *[([], 0)] * 7],
        [[10, *[80] * 8], *([80, *(10 if a == b else 11 for b in range(8))] for a in range(8))],
        sockets=[cpus],
        llcs=[cpus],
        cores=runs(*[1] * 72),
        numa_status={"0009:01:00.0": 1},
    )


def grace_blackwell():
    """Two Graces with two Blackwells each: eight nodes a GPU, the first with its memory."""
    sockets = runs(72, 72)
    gpus = {2: "0008:01:00.0", 10: "0009:01:00.0", 18: "0018:01:00.0", 26: "0019:01:00.0"}
    return built(
        [
            (sockets[0], 489935),
            (sockets[1], 489795),
            *(([], 188416 if id_ in gpus else 0) for id_ in range(2, 34)),
        ],
        [[_blackwell(a, b) for b in range(34)] for a in range(34)],
        sockets=sockets,
        llcs=sockets,
        cores=runs(*[1] * 144),
        numa_status={address: id_ for id_, address in gpus.items()},
    )


def _blackwell(a, b):
    """Give one distance; the first two nodes are the Graces."""
    if a == b:
        return 10
    low, high = sorted((a, b))
    if high < 2:
        return 40
    if low < 2:
        return 80 if low == (high - 2) // 16 else 120
    return 11 if (low - 2) // 8 == (high - 2) // 8 else 40


BUILT = {
    "epyc-nps1": epyc_nps1,
    "epyc-four-nodes-a-socket": epyc_four_nodes_a_socket,
    "xeon-snc4": xeon_snc4,
    "xeon-cxl": xeon_cxl,
    "grace-hopper": grace_hopper,
    "grace-blackwell": grace_blackwell,
}


def main():
    """Pack one machine, or all that are built from published figures."""
    if sys.argv[1:]:
        name, folder, *target = sys.argv[1:]
        pack(name, recorded(Path(folder)), *map(Path, target))
        return
    for name, build in BUILT.items():
        pack(name, build())


if __name__ == "__main__":
    main()
