# SPDX-License-Identifier: Apache-2.0

"""Compare reading numa_maps of 10,000 regions of one page each with reading and parsing it.

``python bench/numa_maps_parsing.py`` prints both medians and their ratio, and
fails where parsing makes it more than one and a half times reading.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py.kernel import node_sysfs, numa_maps

REGIONS = 10_000  # vm.max_map_count is 65,530
ROUNDS = 41
RATIO_ALLOWED = 1.5

# Every second page is left out of core dumps, and VMAs that differ in this do not merge.
CHILD = f"""
import mmap, sys
memory = mmap.mmap(-1, {REGIONS} * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range({REGIONS}):
    memory[page * mmap.PAGESIZE] = 1
    if page % 2:
        memory.madvise(mmap.MADV_DONTDUMP, page * mmap.PAGESIZE, mmap.PAGESIZE)
print(flush=True)
sys.stdin.read()
"""


def main():
    """Print what reading and parsing took, and give the exit status."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        text, read_s, parsed_s = measure(child.pid)
    ratio = parsed_s / read_s
    lines = text.count(b"\n")
    print(f"{lines:,} regions, {len(text):,} bytes, median of {ROUNDS} interleaved rounds")
    print(f"reading              {read_s * 1e3:6.2f} ms")
    print(f"reading and parsing  {parsed_s * 1e3:6.2f} ms")
    print(f"ratio                {ratio:6.2f}    at most {RATIO_ALLOWED}")
    return 0 if text.count(b" N") >= REGIONS and ratio <= RATIO_ALLOWED else 1


def measure(pid):
    """Give the text, and the median seconds of reading it and of reading and parsing it."""
    node_ids = node_sysfs.read_topology().node_ids
    read_s, parsed_s = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        text = numa_maps.read(pid)
        between = time.perf_counter()
        numa_maps.parse(numa_maps.read(pid), node_ids, node_sysfs.PAGE_BYTES)
        read_s.append(between - begin)
        parsed_s.append(time.perf_counter() - between)
    return text, statistics.median(read_s), statistics.median(parsed_s)


if __name__ == "__main__":
    sys.exit(main())
