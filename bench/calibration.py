# SPDX-License-Identifier: Apache-2.0

"""Hold the loops of ``numad-py calibrate`` against plain C and Debian's mbw, on this machine's first node.

``python bench/calibration.py`` compiles bench/peer.c with gcc and lets both chase, read, write and copy in turn, and
copy with one thread beside ``mbw`` (``apt-get install mbw``). It fails where
the median of a round's ratio, both sides right after each other, is further than 10 % from 1.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py.calibrate import bandwidth, latency, memory, site
from numad_py.calibrate.figures import Effort, Quantity
from numad_py.calibrate.latency import Chase

MB = 512
ONCE = Effort(repetitions=1, steps=200_000, window_s=0.02)  # as the peer
ALLOWED = 0.10
OPERATIONS = (Quantity.READ, Quantity.WRITE, Quantity.COPY)
COMPILE = ["gcc", "-O3", "-march=native", "-fno-tree-loop-distribute-patterns", "-pthread"]
# Without the last but one gcc makes calls to memcpy and memset of the loops that are to be compared.


class Peer:
    """The C program, which answers a word with a figure."""

    def __init__(self, folder, cpus):
        program = Path(folder) / "peer"
        subprocess.run([*COMPILE, "-o", program, Path(__file__).with_name("peer.c")], check=True)
        words = [program, str(MB), *map(str, cpus)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, word):
        print(word, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def mbw(method):
    """Give what mbw copies with one thread, reading and writing counted, in GB/s."""
    words = [
        "taskset",
        "-c",
        str(min(os.sched_getaffinity(0))),
        "mbw",
        "-n",
        "1",
        f"-t{method}",
        str(MB // 2),
    ]
    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # as ours; glibc 2.35 and later
    output = subprocess.run(words, env=os.environ | huge, capture_output=True, text=True, check=True).stdout
    return 2 * float(re.search(r"AVG.*Copy: ([0-9.]+) MiB/s", output)[1]) * 2**20 / 1e9


def sitting(folder, here, rounds, found):
    """Take fresh memory on both sides, since where it lies makes a difference, and let both measure in turn."""
    node = here.initiators[0]
    cpus = here.cores[node]
    words = memory.on_node(node, chain_bytes=MB << 20, stream_bytes=MB << 20, bound=True)
    chase, peer = Chase(words.chain), Peer(folder, cpus)
    every, first = bandwidth.share_out(words.stream, cpus), {cpus[0]: words.stream}
    turns = {
        "chase, ns": (lambda: latency.idle(cpus[0], chase, ONCE).median, partial(peer.ask, "chase")),
        **{
            f"{what}, GB/s": (partial(gb_per_s, every, what), partial(peer.ask, str(what)))
            for what in OPERATIONS
        },
        "copy, mbw's memcpy, GB/s": (partial(gb_per_s, first, Quantity.COPY), partial(mbw, 0)),
        "copy, mbw's loop, GB/s": (partial(gb_per_s, first, Quantity.COPY), partial(mbw, 1)),
    }
    for name, both in turns.items():
        found.setdefault(name, []).extend([tuple(side() for side in both) for _ in range(rounds + 1)][1:])
    peer.process.kill()
    peer.process.communicate()


def tell(name, pairs):
    """Print both medians and the median ratio of neighbours in time; give that ratio."""
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, ratio, high = np.percentile([a / b for a, b in pairs], (25, 50, 75))
    print(f"{name:24} {mine:8.2f} {other:8.2f}   {ratio:5.3f}   {low:5.3f} to {high:5.3f}")
    return ratio


def main():
    """Print a line for each loop; exit 1 if one is too far from its peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sittings", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    if not shutil.which("mbw"):
        sys.exit("mbw is not installed: apt-get install mbw")
    here, found = site.read(), {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.sittings):
            sitting(folder, here, chosen.rounds, found)
    print(f"{MB} MB, {chosen.sittings} sittings of {chosen.rounds} rounds in turn, CPUs {here.cores}")
    print(f"{'':24} {'ours':>8} {'peer':>8}   ratio   middle half of the rounds")
    ratios = [tell(name, pairs) for name, pairs in found.items()]
    sys.exit(any(abs(ratio - 1) > ALLOWED for ratio in ratios))


def gb_per_s(streams, operation):
    """Give what calibrate would say of one repetition."""
    (by_cpu,) = bandwidth.repeated(streams, operation, ONCE)
    return sum(by_cpu.values()) / bandwidth.GB


if __name__ == "__main__":
    main()
