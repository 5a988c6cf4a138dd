# SPDX-License-Identifier: Apache-2.0

"""A root folder with as much of proc/, sys/ and a cgroup tree as the daemon reads."""

import os
import shutil
from pathlib import Path

import pytest

from numad_py.kernel import cgroup

PAGE_KIB = 4
HEAP = 0x5555_0000_0000
NODE_KIB = 1 << 20
MEMINFO = (
    "MemTotal",
    "MemFree",
    "Active(file)",
    "Inactive(file)",
    "Dirty",
    "Writeback",
    "Mapped",
    "AnonPages",
)

# Root too may not read a sysctl of mode 0200: fs/proc/proc_sysctl.c test_perm() asks no capability.
FORBIDDEN = Path("/proc/sys/vm/drop_caches")


class FakeRoot:
    """Two nodes of 1 GiB with two CPUs each, ``cgroup/`` as the mount of cgroup v2, and no process."""

    def __init__(self, root: Path, nodes=2):
        self.root = root
        self.mount = root / "cgroup"
        self.mount.mkdir()
        self.write("proc/self/mountinfo", "1 1 0:1 / /cgroup rw - cgroup2 cgroup2 rw\n")
        self.write("proc/sys/kernel/random/boot_id", "0d5f8b7e-0000-4000-8000-000000000000\n")
        self.write(
            "proc/zoneinfo",
            "".join(f"Node {node}, zone   Normal\n        high     10\n" for node in range(nodes)),
        )
        self.vmstat()
        self.write(
            "proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 1\n"
        )
        for node in range(nodes):
            self.node(node, nodes=nodes)

    def write(self, path, text):
        """Write one file, its folders too."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def node(self, new, *, nodes):
        """Bring a node with two CPUs on line; ``nodes`` are there then."""
        self.write("sys/devices/system/node/online", f"0-{nodes - 1}\n" if nodes > 1 else "0\n")
        self.write(f"sys/devices/system/node/node{new}/cpulist", f"{2 * new}-{2 * new + 1}\n")
        for node in range(nodes):
            distances = ["10" if node == other else "21" for other in range(nodes)]
            self.write(f"sys/devices/system/node/node{node}/distance", " ".join(distances) + "\n")
        self.meminfo(new)

    def meminfo(self, node, **kib):
        """Write a node's counters: half free, but for what is said (free, inactive, dirty, mapped)."""
        names = {"MemFree": "free", "Inactive(file)": "inactive", "Dirty": "dirty", "Mapped": "mapped"}
        usual = {"MemTotal": NODE_KIB, "MemFree": NODE_KIB // 2}
        values = {name: kib.get(names.get(name, ""), usual.get(name, 0)) for name in MEMINFO}
        lines = (f"Node {node} {name}: {value} kB\n" for name, value in values.items())
        self.write(f"sys/devices/system/node/node{node}/meminfo", "".join(lines))

    def vmstat(self, **counters):
        """Write /proc/vmstat."""
        zero = dict.fromkeys(("pswpout", "pgscan_direct", "pgsteal_direct"), 0)
        self.write("proc/vmstat", "".join(f"{name} {value}\n" for name, value in (zero | counters).items()))

    def job(self, name="job", *, pids=(), label="default", charged=None):
        """Make a labelled cgroup; ``charged`` is KiB by node for its memory.numa_stat. Needs root, whose labels count."""
        directory = self.mount / name
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        try:
            os.setxattr(directory, cgroup.LABEL, label.encode())
        except OSError:
            pytest.skip("no user xattrs on the file system of tmp_path")
        if os.geteuid() != 0:
            pytest.skip("only labels on root's directories count")
        if charged is not None:
            by_node = "".join(f" N{node}={kib << 10}" for node, kib in charged.items())
            (directory / "memory.numa_stat").write_text(f"anon{by_node}\nfile\n")
        return directory

    def process(self, pid, *, pages=None, ticks=None, start_ticks=7, comm="python3", rss_kib=None, faults=0):
        """Write or rewrite a process: ``pages`` by node, ``ticks`` of CPU time as {TID: (CPU, ticks)}."""
        pages = {0: 100} if pages is None else pages
        ticks = {pid: (0, 0)} if ticks is None else ticks
        total = sum(pages.values())
        folder = f"proc/{pid}"
        shutil.rmtree(self.root / folder / "task", ignore_errors=True)
        used = sum(used for _, used in ticks.values())
        line = stat(pid, comm, utime=used, start_ticks=start_ticks, rss_pages=total, faults=faults)
        self.write(f"{folder}/stat", line)
        for tid, (cpu, used) in ticks.items():
            self.write(f"{folder}/task/{tid}/stat", stat(tid, comm, cpu=cpu, utime=used))
        rss = total * PAGE_KIB if rss_kib is None else rss_kib
        lists = "Uid:\t0\t0\t0\t0\nCpus_allowed_list:\t0-3\nMems_allowed_list:\t0-1\n"
        self.write(f"{folder}/status", f"Name:\t{comm}\n{lists}RssAnon:\t{rss} kB\n")
        self.write(f"{folder}/maps", f"{HEAP:x}-{HEAP + total * 4096:x} rw-p 00000000 00:00 0 \n")
        by_node = " ".join(f"N{node}={count}" for node, count in pages.items())
        line = f"{HEAP:x} default anon={total} dirty={total} {by_node} kernelpagesize_kB=4\n"
        self.write(f"{folder}/numa_maps", line)
        return self.root / folder

    def end(self, pid):
        """Remove a process, as if it had ended; cgroups still name it."""
        shutil.rmtree(self.root / "proc" / str(pid))


def stat(
    pid,
    comm="python3",
    *,
    cpu=0,
    utime=0,
    num_threads=1,
    start_ticks=7,
    rss_pages=0,
    faults=0,
    start_stack=0,
    flags=0,
):
    """Give a line of /proc/PID/stat."""
    fields = ["0"] * 50
    said = {
        0: "S",
        6: flags,
        7: faults,
        11: utime,
        17: num_threads,
        19: start_ticks,
        20: rss_pages * 4096,
        21: rss_pages,
        25: start_stack,
        36: cpu,
    }
    for index, value in said.items():
        fields[index] = str(value)
    return f"{pid} ({comm}) {' '.join(fields)}\n"
