# SPDX-License-Identifier: Apache-2.0

"""Read how many pages the kernel has merged with others of equal contents (KSM): each of these is one for all."""

from pathlib import Path
from typing import Final

_SHARED: Final = Path("sys/kernel/mm/ksm/pages_shared")


def shared_pages(root: Path = Path("/")) -> int:
    """Give how many merged pages there are on the machine, of whomever; also while no more are merged."""
    try:
        return int((root / _SHARED).read_bytes())
    except FileNotFoundError:  # a kernel without CONFIG_KSM
        return 0


def merged_pages(pid: int, root: Path = Path("/")) -> int | None:
    """Give how many pages of a process are merged; None where only its user may know, or the kernel does not count."""
    if not shared_pages(root):
        return 0
    try:
        # Since Linux commit 7609385337a4 ("ksm: count ksm merging pages for each process", in v5.19).
        return int((root / "proc" / str(pid) / "ksm_merging_pages").read_bytes())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
