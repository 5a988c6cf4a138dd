# SPDX-License-Identifier: Apache-2.0

"""Say why a process is not looked at, and what can be done about it."""

import re
from collections.abc import Collection
from pathlib import Path

from numad_py.kernel import Malformed, cgroup, proc_stat
from numad_py.model import Snapshot
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import OFF, Label


def why_unseen(pid: int, jobs: Jobs, seen: Snapshot | None, profiles: Collection[str], root: Path) -> str:
    """Say why a process was not in the last look; ``profiles`` are those that who asks may give it."""
    if proc_stat.read(pid, root).is_kernel_thread:
        return f"{pid} is a kernel thread, and has no memory of its own to move"
    if (leader := _leader(pid, root)) != pid:
        return f"{pid} is a thread of process {leader}: ask about that one"
    for skipped in seen.skipped if seen else ():
        if skipped.process.pid == pid:
            return f"process {pid} is skipped: {skipped.why}"
    if seen and any(key.pid == pid for key in seen.cost.postponed):
        return f"looking at process {pid} was put off, since looking took all of budget_core_share"
    try:
        return _unlabelled(pid, cgroup.path_of(pid, root), jobs, profiles)
    except Malformed:
        return f"process {pid} is in no cgroup of v2, and so cannot be labelled"


def _unlabelled(pid: int, path: str, jobs: Jobs, profiles: Collection[str]) -> str:
    words = [word for word in jobs.labels.words if _covers(word, path)]
    held = [word for word in words if not word.why]
    if held and held[-1].profile == OFF:
        who, where = held[-1].said_by, held[-1].path
        return f"process {pid} is off, as {who} says of {where}; numad-py label tells who said what"
    if held:
        return f"process {pid} belongs to the job {held[-1].path}, and has not been looked at yet: ask again after the next look"
    if path == "/":
        return f"process {pid} is in the root cgroup, which cannot be labelled: start it in one of its own, as systemd-run --scope does"
    if words:
        return f"the label {words[-1].profile} of {words[-1].path} does not count for process {pid}: {words[-1].why}"
    remedy = (
        f"numad-py label {pid} {next(iter(profiles))} opts it in"
        if profiles
        else "only root may label it, since user_profiles names nothing"
    )
    return f"process {pid} is not labelled, nor is its cgroup {path} or any above that: {remedy}"


def _covers(word: Label, path: str) -> bool:
    return f"{path}/".startswith(f"{word.path.rstrip('/')}/")


def _leader(pid: int, root: Path) -> int:
    """Give the process that a thread belongs to: /proc/TID is there for every thread, though it is not listed."""
    found = re.search(rb"^Tgid:\t([0-9]{1,10})$", (root / f"proc/{pid}/status").read_bytes(), re.MULTILINE)
    return int(found[1]) if found else pid
