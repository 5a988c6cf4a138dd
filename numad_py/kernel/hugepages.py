# SPDX-License-Identifier: Apache-2.0

"""Read how large transparent huge pages are."""

from pathlib import Path


def pmd_bytes(root: Path = Path("/")) -> int:
    """Give the size of a transparent huge page; 0 where the kernel has none."""
    path = root / "sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
