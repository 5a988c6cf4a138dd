# SPDX-License-Identifier: Apache-2.0

"""Know whose a job is: nobody may be told where another's memory is."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cgroup, proc_status
from numad_py.model import Job
from numad_py.sense.opt_in import ROOT

NOBODY: Final = 65534  # kernel.overflowuid: whoever has no uid in our user namespace, and so not one person
CGROUPS: Final = 1000
PROCESSES: Final = 4000  # which take 0.1 s


class TooLarge(OSError):
    """More than can be looked through for a user while others wait."""

    def __init__(self) -> None:
        super().__init__(f"it has more than {CGROUPS} cgroups or {PROCESSES} processes")


def may_see(uid: int, job: Job, mount: Path, root: Path = Path("/")) -> bool:
    """Say whether a user may see a job: root all, others what is in their directory, or wholly their own."""
    if uid in (ROOT, NOBODY):
        return uid == ROOT
    owner = owner_uid(job, mount)
    try:
        return owner is not None and (owner == uid or owners(mount / job.path[1:], root, but=uid) == {uid})
    except (OSError, Malformed):
        return False


def owns(uid: int, pid: int, root: Path = Path("/")) -> bool:
    """Say whether a process is wholly a user's; all are root's. Raises FileNotFoundError where there is none."""
    owners = proc_status.owners(pid, root)
    return uid == ROOT or (uid != NOBODY and owners == {uid})


def owner_uid(job: Job, mount: Path) -> int | None:
    """Give whose directory a job's is; None where that cgroup is gone."""
    try:
        directory = (mount / job.path[1:]).stat(follow_symlinks=False)
    except OSError:
        return None
    return directory.st_uid if directory.st_ino == job.cgroup_id else None


def owners(top: Path, root: Path = Path("/"), *, but: int) -> frozenset[int]:
    """Give who has processes in a cgroup or below it; one who is not ``but`` is enough."""
    found: set[int] = set()
    for pid in pids(top):
        with suppress(FileNotFoundError, ProcessLookupError):
            found |= proc_status.owners(pid, root)
        if found - {but}:
            break
    return frozenset(found)


def pids(top: Path) -> Iterator[int]:
    """Give the processes in a cgroup and below it, as they are now; raises OSError where not all may be read.

    Raises TooLarge where that would keep others from being answered.
    """
    processes = 0
    for cgroups, (directory, _, _) in enumerate(os.walk(top, onerror=_unless_gone), 1):
        found = cgroup.procs(Path(directory))
        processes += len(found)
        if cgroups > CGROUPS or processes > PROCESSES:
            raise TooLarge
        yield from found


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
