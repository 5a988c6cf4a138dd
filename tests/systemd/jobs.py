# SPDX-License-Identifier: Apache-2.0

"""Jobs as an operator starts them: scopes of systemd, with a program of another user inside."""

import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.systemd.typed import sh
from tests.vm.running import REST, Workload

LABEL = "user.numad.policy"
FORKER = str(Path(__file__).with_name("forker.py"))


@contextmanager
def job(name, *words):
    """Start alice's program in a scope of that name, and wait until it is ready; end it at the end."""
    scope = ["systemd-run", "--quiet", "--scope", f"--unit={name}", "--uid=alice", "--collect"]
    print(f"\n# {' '.join([*scope, 'python3', *words])} &", flush=True)
    workload = Workload(
        subprocess.Popen(
            [*scope, "python3", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    )
    try:
        yield workload.await_ready()
    finally:
        sh(f"systemctl stop {name}.scope")
        workload.close()


def late_bound(name, mb=40):
    """Start one that allocates on node 0, and runs on node 1, with rests, once it is told to ``bind``."""
    return job(name, "-m", "tests.vm.workloads", "late-bound", f"--mb={mb}", REST)


def label(name, profile):
    """Opt a job in."""
    sh(f"setfattr --name={LABEL} --value={profile} {folder(name)}")


def cgroup(name):
    """Give the path of a scope's cgroup, as the daemon names it."""
    return f"/system.slice/{name}.scope"


def folder(name):
    """Give the directory of a scope's cgroup."""
    return Path(f"/sys/fs/cgroup{cgroup(name)}")


def pids(name):
    """Give the processes of a scope."""
    return [int(line) for line in (folder(name) / "cgroup.procs").read_text().split()]
