# SPDX-License-Identifier: Apache-2.0

"""Read the cgroup v2 tree: whose its directories are, how they are labelled, what they hold and are charged.

A label is the extended attribute ``user.numad.policy``: the name of a profile, or ``off``.
Which labels count is decided in ``sense.opt_in``.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed, small_file
from numad_py.model import JobMemory
from numad_py.topology import Ints

__all__ = [
    "LABEL",
    "NOT_FOUND",
    "Directory",
    "Malformed",
    "cgroup_id",
    "label_of",
    "look",
    "mount_point",
    "numa_stat",
    "path_of",
    "pids",
    "procs",
    "read_mount_point",
    "set_label",
    "small_pages_bytes",
    "walk",
]

# Since Linux commit 0c47383ba3bd ("kernfs: Add option to enable user xattrs") (in v5.7). Not trusted.*: without
# CAP_SYS_ADMIN that namespace cannot even be read.
LABEL: Final = "user.numad.policy"

NOT_FOUND: Final = {errno.ENOENT, errno.ENODEV, errno.EACCES, errno.ENAMETOOLONG}
"""What looking at a cgroup says that is gone, may not be read, or lies deeper than a path can tell."""

_CGROUP2: Final = re.compile(rb"^[0-9]+ [0-9]+ [0-9]+:[0-9]+ ([^ \n]+) ([^ \n]+) .* - cgroup2 ", re.MULTILINE)
_NODE_BYTES: Final = re.compile(rb"N([0-9]{1,6})=([0-9]{1,18})")
_STAT: Final = re.compile(rb"^(anon|file|anon_thp) ([0-9]{1,18})$", re.MULTILINE)
_LONGEST_PID: Final = 10
_OWN: Final = re.compile(rb"^0::(/[^\n]*)$", re.MULTILINE)
_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2})")

# What reading an attribute says where there is none, and where the cgroup is gone: ENOENT before it was opened,
# ENODEV after. ENOTSUP and EOPNOTSUPP are one number.
_NO_LABEL: Final = {errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.ENODEV}
_LINKS_OF_A_LEAF: Final = 2
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_NO_PROCS: Final = {errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV}


@dataclass(frozen=True)
class Directory:
    """One cgroup as found: ``path`` is relative to the mount, "/a/b", and "/" for the root.

    ``shared`` says that others than its owner may write to it, and so could have labelled it.
    """

    path: str
    cgroup_id: int
    owner_uid: int
    label: str | None
    shared: bool = False


def read_mount_point(root: Path = Path("/")) -> Path | None:
    """Find where cgroup v2 is mounted; None where it is not. Found on hybrid hosts too."""
    mount = mount_point((root / "proc/self/mountinfo").read_bytes())
    return root / mount.relative_to("/") if mount else None


def mount_point(mountinfo: bytes) -> Path | None:
    """Give the mount point of cgroup v2: the one that shows the whole tree, else the first."""
    mounts = sorted(_CGROUP2.findall(mountinfo), key=lambda mount: mount[0] != b"/")
    # fs/proc_namespace.c escapes blanks, tabs, newlines and backslashes.
    unescaped = [_OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), at) for _, at in mounts]
    return Path("/", os.fsdecode(unescaped[0])) if unescaped else None


def numa_stat(text: bytes, node_ids: tuple[int, ...]) -> JobMemory:
    """Give what memory.numa_stat of v2 charges, by node; Malformed where anon or file is missing.

    Nodes that the file does not name, those without memory, have 0.
    """
    return JobMemory(_by_node(b"anon", text, node_ids), _by_node(b"file", text, node_ids))


def small_pages_bytes(text: bytes) -> int:
    """Give what memory.stat of v2 charges that is surely not in huge pages of anonymous memory: an upper bound.

    Malformed where anon, file or anon_thp is missing.
    """
    charged = dict(_STAT.findall(text))
    try:
        return int(charged[b"anon"]) + int(charged[b"file"]) - int(charged[b"anon_thp"])
    except KeyError as missing:
        raise Malformed(f"memory.stat: no line of {missing.args[0].decode()}: {text[:80]!r}") from None


def procs(path: Path) -> tuple[int, ...]:
    """Give the processes of one cgroup, ascending; none where it is gone.

    None for a threaded cgroup too, whose processes are listed at the root of its
    domain. Malformed where the file holds anything but numbers.
    """
    try:
        text = small_file.read(f"{path}/cgroup.procs")
    except OSError as error:
        if error.errno in _NO_PROCS:
            return ()
        raise
    return pids(text)


def pids(text: bytes) -> tuple[int, ...]:
    """Give the numbers in a cgroup.procs, ascending, each once, without those of other PID namespaces."""
    lines = text.split()
    if lines and not (b"".join(lines).isdigit() and max(map(len, lines)) <= _LONGEST_PID):
        raise Malformed(f"cgroup.procs: {text[:80]!r}")
    return tuple(sorted({int(line) for line in lines} - {0}))  # 0: not in our PID namespace


def cgroup_id(path: Path) -> int:
    """Give the id that the kernel, BPF and perf know a cgroup by; it is never used again.

    Since Linux commit 40430452fd5d ("kernfs: use 64bit inos if ino_t is 64bit") (in
    v5.5) it is the inode number of the directory.
    """
    return path.stat().st_ino


def label_of(cgroup: Path | int) -> str | None:
    """Give the label of a cgroup, a path or an open directory; None where it has none or is gone.

    Bytes that are not UTF-8 are backslash-escaped, and so are no profile's name.
    """
    try:
        return os.getxattr(cgroup, LABEL).decode(errors="backslashreplace")
    except OSError as error:
        if error.errno in _NO_LABEL:
            return None
        raise


def set_label(cgroup: Path, label: str | None) -> None:
    """Write the label of a cgroup; None takes it off, where there is one."""
    if label is not None:
        os.setxattr(cgroup, LABEL, label.encode())
        return
    try:
        os.removexattr(cgroup, LABEL)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def path_of(pid: int, root: Path = Path("/")) -> str:
    """Give the path of a process's cgroup, as /proc/PID/cgroup has it; Malformed where it is in none of v2."""
    text = (root / f"proc/{pid}/cgroup").read_bytes()
    found = _OWN.search(text)
    if not found:
        raise Malformed(f"cgroup: no line of cgroup v2: {text[:80]!r}")
    return os.fsdecode(found[1])


def walk(
    mount: Path, top: str = "/", before: Callable[[str], None] = lambda _path: None
) -> Iterator[Directory]:
    """Give a cgroup and all below it, parents before children, siblings by name; ``before`` is told of each first.

    Directories that vanish meanwhile, or may not be read, are left out.
    """
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            before(path)
            cgroup, children = look(mount, path)
        except OSError as error:
            if error.errno in NOT_FOUND:
                continue
            raise
        yield cgroup
        waiting += [f"{path.rstrip('/')}/{name}" for name in sorted(children, reverse=True)]


def look(mount: Path, path: str) -> tuple[Directory, list[str]]:
    """Look at one cgroup; give the names of those right below it too."""
    # Through one descriptor: else whoever owns the parent could put a directory with a label of his own in the
    # place of root's between the two questions, and have it taken for root's.
    directory = os.open(mount / path[1:], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(directory)
        shared = bool(
            status.st_mode & _OTHERS_WRITE
        )  # setting user.* asks for write permission, not for ownership
        cgroup = Directory(path, status.st_ino, status.st_uid, label_of(directory), shared)
        # kernfs counts a directory's links as its children and two (fs/kernfs/inode.c kernfs_refresh_inode()), so
        # the leaves, which are most cgroups, need not be listed.
        return cgroup, [] if status.st_nlink == _LINKS_OF_A_LEAF else _children(directory)
    finally:
        os.close(directory)


def _children(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _by_node(name: bytes, text: bytes, node_ids: tuple[int, ...]) -> Ints:
    line = re.search(rb"^%s((?: N[0-9]{1,6}=[0-9]{1,18})*)$" % name, text, re.MULTILINE)
    if not line:
        raise Malformed(f"memory.numa_stat: no line of {name.decode()}: {text[:80]!r}")
    bytes_on = {int(node): int(charged) for node, charged in _NODE_BYTES.findall(line[1])}
    return np.array([bytes_on.get(node, 0) for node in node_ids], np.int64)
