# SPDX-License-Identifier: Apache-2.0

"""Read the cgroup v2 tree: which subtrees are labelled, what they hold, and what memory they are charged.

A job is a subtree whose top carries the extended attribute ``user.numad.policy``:
the name of a profile, or ``off``. The nearest label wins, except that ``off``
holds for everything below it. The root cannot be labelled, and only the labels of
directories that root owns count: a user may write the others.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed
from numad_py.model import JobMemory
from numad_py.topology import Ints

__all__ = [
    "LABEL",
    "OFF",
    "Directory",
    "IgnoredLabel",
    "LabelledCgroup",
    "Labels",
    "Malformed",
    "assign",
    "cgroup_id",
    "label_of",
    "labels",
    "mount_point",
    "numa_stat",
    "pids",
    "procs",
    "read_mount_point",
    "small_pages_bytes",
]

# Since Linux commit 0c47383ba3bd ("kernfs: Add option to enable user xattrs") (in v5.7). Not trusted.*: without
# CAP_SYS_ADMIN that namespace cannot even be read.
LABEL: Final = "user.numad.policy"
OFF: Final = "off"

_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CGROUP2: Final = re.compile(rb"^[0-9]+ [0-9]+ [0-9]+:[0-9]+ ([^ \n]+) ([^ \n]+) .* - cgroup2 ", re.MULTILINE)
_NODE_BYTES: Final = re.compile(rb"N([0-9]{1,6})=([0-9]{1,18})")
_STAT: Final = re.compile(rb"^(anon|file|anon_thp) ([0-9]{1,18})$", re.MULTILINE)
_PID: Final = re.compile(rb"[0-9]{1,10}")
_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2})")

# What reading an attribute says where there is none, and where the cgroup is gone: ENOENT before it was opened,
# ENODEV after. ENOTSUP and EOPNOTSUPP are one number.
_NO_LABEL: Final = {errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.ENODEV}
_NOT_FOUND: Final = {errno.ENOENT, errno.ENODEV, errno.EACCES}
_LINKS_OF_A_LEAF: Final = 2
_NO_PROCS: Final = {errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV}


@dataclass(frozen=True)
class Directory:
    """One cgroup as found: ``path`` is relative to the mount, "/a/b", and "/" for the root."""

    path: str
    cgroup_id: int
    owner_uid: int
    label: str | None


@dataclass(frozen=True)
class LabelledCgroup:
    """One job; ``directories`` are the cgroups that belong to it, its own first."""

    path: str
    cgroup_id: int
    profile: str
    directories: tuple[Path, ...]


@dataclass(frozen=True)
class IgnoredLabel:
    """A label that does not count, and why."""

    path: str
    cgroup_id: int
    label: str
    why: str


@dataclass(frozen=True)
class Labels:
    """All labels of a tree, in the order of their paths."""

    jobs: tuple[LabelledCgroup, ...]
    ignored: tuple[IgnoredLabel, ...]


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
        text = (path / "cgroup.procs").read_bytes()
    except OSError as error:
        if error.errno in _NO_PROCS:
            return ()
        raise
    return pids(text)


def pids(text: bytes) -> tuple[int, ...]:
    """Give the numbers in a cgroup.procs, ascending, each once, without those of other PID namespaces."""
    lines = text.split()
    if not all(_PID.fullmatch(line) for line in lines):
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


def labels(mount: Path) -> Labels:
    """Walk a cgroup tree once, and give its jobs and the labels that do not count.

    Directories that vanish meanwhile, or may not be read, are left out.
    """
    return assign(_walk(mount), mount)


def assign(directories: Iterable[Directory], mount: Path) -> Labels:
    """Give each directory to its job; ``directories`` come parents first."""
    tops: dict[str, Directory] = {}
    members: dict[str, list[Path]] = {OFF: []}
    ignored: list[IgnoredLabel] = []
    job_of: dict[str, str | None] = {}  # by path: the path of the job's top, OFF, or None
    for cgroup in directories:
        job = job_of.get(cgroup.path.rpartition("/")[0] or "/")
        if cgroup.label is not None and (why := _why_ignored(cgroup, cgroup.label)):
            ignored.append(IgnoredLabel(cgroup.path, cgroup.cgroup_id, cgroup.label[:80], why))
        elif cgroup.label == OFF:
            job = OFF
        elif cgroup.label is not None and job != OFF:
            job = cgroup.path
            tops[job], members[job] = cgroup, []
        job_of[cgroup.path] = job
        if job is not None:
            members[job].append(mount / cgroup.path[1:])
    jobs = (
        LabelledCgroup(path, top.cgroup_id, str(top.label), tuple(members[path]))
        for path, top in tops.items()
    )
    return Labels(tuple(jobs), tuple(ignored))


def _why_ignored(cgroup: Directory, label: str) -> str:
    if cgroup.path == "/":
        return "the root cgroup cannot be labelled"
    if cgroup.owner_uid != 0:
        return f"the directory belongs to uid {cgroup.owner_uid}; only labels on root's own directories count"
    return "" if _PROFILE.fullmatch(label) else "not the name of a profile, nor off"


def _walk(mount: Path) -> Iterator[Directory]:
    """Give all cgroups, parents before children, siblings by name."""
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        try:
            cgroup, children = _look(mount, path)
        except OSError as error:
            if error.errno in _NOT_FOUND:
                continue
            raise
        yield cgroup
        waiting += [f"{path.rstrip('/')}/{name}" for name in sorted(children, reverse=True)]


def _look(mount: Path, path: str) -> tuple[Directory, list[str]]:
    # Through one descriptor: else whoever owns the parent could put a directory with a label of his own in the
    # place of root's between the two questions, and have it taken for root's.
    directory = os.open(mount / path[1:], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(directory)
        cgroup = Directory(path, status.st_ino, status.st_uid, label_of(directory))
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
