# SPDX-License-Identifier: Apache-2.0

"""Read /proc/PID/status: where a process may run and allocate, and whose it is."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cpulist

__all__ = ["Malformed", "Status", "owners", "parse", "read"]

# The Name: line cannot pose as another: fs/proc/array.c proc_task_name() escapes newlines in it.
_MEMS_ALLOWED: Final = re.compile(rb"^Mems_allowed_list:[ \t]*([0-9,-]*)$", re.MULTILINE)
_CPUS_ALLOWED: Final = re.compile(rb"^Cpus_allowed_list:[ \t]*([0-9,-]*)$", re.MULTILINE)
_RSS_ANON: Final = re.compile(rb"^RssAnon:[ \t]*([0-9]{1,15}) kB$", re.MULTILINE)
_UID: Final = re.compile(rb"^Uid:[ \t]+[0-9]{1,10}[ \t]+([0-9]{1,10})[ \t]", re.MULTILINE)
_UIDS: Final = re.compile(rb"^Uid:((?:\t[0-9]{1,10}){4})$", re.MULTILINE)
_ENOUGH: Final = 1024  # bytes, within which the line Uid: is


@dataclass(frozen=True)
class Status:
    """The lines the daemon uses. ``uid`` is the effective one, which owns /proc/PID.

    ``rss_anon_bytes`` is 0 for kernel threads, which have no memory of their own.
    """

    nodes_allowed: tuple[int, ...]
    cpus_allowed: tuple[int, ...]
    rss_anon_bytes: int
    uid: int


def read(pid: int, root: Path = Path("/")) -> Status:
    """Read /proc/PID/status."""
    return parse((root / f"proc/{pid}/status").read_bytes())


def owners(pid: int, root: Path = Path("/")) -> frozenset[int]:
    """Give whose a process is: its real, effective, saved and file system uid, and the owner of its files in /proc.

    That one is root where the process may not be dumped (fs/proc/base.c task_dump_owner()), because it exec'd
    something setuid or with capabilities: not even its own user may then trace it, or move its pages.
    """
    status = os.open(f"{root}/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        uids = _one(_UIDS, os.read(status, _ENOUGH))
        return frozenset({os.fstat(status).st_uid, *map(int, uids.split())})
    finally:
        os.close(status)


def parse(text: bytes) -> Status:
    """Give the lines the daemon uses; Malformed where one is missing or of another form."""
    rss_anon = _RSS_ANON.search(text)
    if not rss_anon and b"\nRssAnon:" in text:
        raise Malformed("status: RssAnon is not a number of kB")
    return Status(
        nodes_allowed=cpulist.parse(_one(_MEMS_ALLOWED, text)),
        cpus_allowed=cpulist.parse(_one(_CPUS_ALLOWED, text)),
        rss_anon_bytes=int(rss_anon[1]) << 10 if rss_anon else 0,
        uid=int(_one(_UID, text)),
    )


def _one(line: re.Pattern[bytes], text: bytes) -> str:
    if not (found := line.search(text)):
        raise Malformed(f"status: no line such as {line.pattern.decode()}")
    return found[1].decode("ascii")
