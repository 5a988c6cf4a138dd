# SPDX-License-Identifier: Apache-2.0

"""Where a process's memory is, told without any code of the package: the tests' second source.

A plain loop over numa_maps, and numastat's own words. Times are CLOCK_MONOTONIC.
"""

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

MB = 1 << 20


def resident_bytes(pid: int, *, files: bool = True) -> Counter[int]:
    """Give resident bytes by node; without files, of anonymous memory alone."""
    found: Counter[int] = Counter()
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        words = dict(word.partition("=")[::2] for word in line.split()[2:])
        if not files and "file" in words:
            continue
        for word, value in words.items():
            if word[0] == "N" and word[1:].isdigit():
                found[int(word[1:])] += int(value) * int(words["kernelpagesize_kB"]) * 1024
    return found


def anonymous_share(pid: int, node: int) -> float:
    """Give the share of a process's anonymous memory that is on a node."""
    found = resident_bytes(pid, files=False)
    return found[node] / max(found.total(), 1)


def wait_for_share(pid: int, node: int, share: float, limit_s: float, period_s: float = 0.1) -> float:
    """Wait until that share of the anonymous memory is on the node; give the time of that reading.

    Raises TimeoutError after ``limit_s``, with the last placement seen.
    """
    until_s = time.monotonic() + limit_s
    while anonymous_share(pid, node) < share:
        if time.monotonic() > until_s:
            found = {key: value // MB for key, value in sorted(resident_bytes(pid, files=False).items())}
            raise TimeoutError(
                f"after {limit_s} s process {pid} has MiB by node {found}, not {share} on {node}"
            )
        time.sleep(period_s)
    return time.monotonic()


def numastat_bytes(pid: int) -> dict[int, float]:
    """Give the totals by node of ``numastat -p``, which prints hundredths of a MiB."""
    wide = os.environ | {"NUMASTAT_WIDTH": "4096"}  # else many nodes wrap into several tables
    text = subprocess.run(
        ["numastat", "-p", str(pid)], check=True, capture_output=True, text=True, env=wide
    ).stdout
    lines = text.splitlines()
    (heading,) = (line.split() for line in lines if "Node 0" in line)
    (totals,) = (line.split()[1:] for line in lines if line.startswith("Total"))
    nodes = [int(word) for word in heading if word.isdigit()]
    return {node: float(mib) * MB for node, mib in zip(nodes, totals, strict=False)}
