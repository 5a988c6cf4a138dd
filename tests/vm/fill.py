# SPDX-License-Identifier: Apache-2.0

"""Fill nodes of a guest with what real machines are full of: clean cache, dirty cache, anonymous memory."""

import contextlib
import ctypes
import mmap
import os
import re
import subprocess
from pathlib import Path

MB = 1 << 20
DISK_MB = 1000

_libc = ctypes.CDLL(None, use_errno=True)


def free_mb(node):
    return meminfo_mb(node, "MemFree")


def meminfo_mb(node, name):
    text = Path(f"/sys/devices/system/node/node{node}/meminfo").read_text()
    return int(re.search(rf"\b{re.escape(name)}:\s+(\d+) kB", text)[1]) / 1024


def vmstat(name):
    return int(re.search(rf"^{name} (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)[1])


def on_node(node, *words):
    """Run a command whose memory, page cache included, comes from one node alone."""
    subprocess.run(["numactl", f"--membind={node}", *words], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def disk(folder):
    """Mount an ext2 file system on a sparse file, so that there is page cache that can be dirty."""
    subprocess.run(["modprobe", "-a", "loop", "ext4"], check=True)
    image, mount = folder / "disk", folder / "mnt"
    mount.mkdir()
    with image.open("wb") as stream:
        stream.truncate(DISK_MB * MB)
    subprocess.run(["mkfs.ext2", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)
        image.unlink()


@contextlib.contextmanager
def swap(folder, mb=200):
    """Switch on a swap device, so that a kernel that wants to swap can."""
    subprocess.run(["modprobe", "loop"], check=True)
    image = folder / "swap"
    with image.open("wb") as stream:
        stream.truncate(mb * MB)
    device = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mkswap", "-q", device], check=True)
        subprocess.run(["swapon", device], check=True)
        yield
    finally:
        subprocess.run(["swapoff", device], check=True)
        subprocess.run(["losetup", "--detach", device], check=True)
        image.unlink()


def clean_cache(node, mount, mb):
    """Fill a node with the pages of a file that has been read once."""
    path = mount / f"clean-{node}"
    with path.open("wb") as stream:
        stream.truncate(mb * MB)
    on_node(node, "cat", str(path))
    return path


@contextlib.contextmanager
def dirty_cache(node, mount, mb):
    """Fill a node with the pages of a file that has been written and not yet gone to disk."""
    later = {"dirty_ratio": "95", "dirty_background_ratio": "94", "dirty_writeback_centisecs": "0"}
    kept = {name: Path(f"/proc/sys/vm/{name}").read_text() for name in later}
    for name, value in later.items():
        Path(f"/proc/sys/vm/{name}").write_text(value)
    path = mount / f"dirty-{node}"
    try:
        on_node(node, "dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mb}")
        yield path
    finally:
        path.unlink()
        for name, value in kept.items():
            Path(f"/proc/sys/vm/{name}").write_text(value)


def resident_share(path):
    """Give the share of a file's pages that are in the page cache, as mincore(2) tells."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        memory = mmap.mmap(
            stream.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    found = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    assert _libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), found) == 0
    return sum(byte & 1 for byte in found) / len(found)
