# SPDX-License-Identifier: Apache-2.0

"""A user's label moves nobody else's process: not root's, not what the user started with more rights than the user has."""

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup, node_sysfs, proc_status
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules, Said
from numad_py.sense.sensor import Costs, LiveSensor
from numad_py.workers import Workers

USER = 23_456  # of this test alone
ALLOWED = Rules(user_profiles=frozenset({"default"}))
MOUNT = cgroup.read_mount_point()
# struct vfs_ns_cap_data of include/uapi/linux/capability.h, revision 2, effective: CAP_SYS_NICE (23)
CAP_SYS_NICE = struct.pack("<5I", 0x0200_0001, 1 << 23, 0, 0, 0)

pytestmark = pytest.mark.skipif(
    MOUNT is None or not os.access(MOUNT, os.W_OK), reason="needs root and cgroup v2"
)


@pytest.fixture
def start():
    """Give a function that starts a copy of sleep as a user, setuid root or with a capability if asked."""
    folder = Path(tempfile.mkdtemp())  # that of pytest is root's alone
    folder.chmod(0o755)
    started = []

    def start(name, *, user=USER, mode=0o755, capability=None):
        program = shutil.copy(shutil.which("sleep"), folder / name)
        Path(program).chmod(mode)
        if capability:
            os.setxattr(program, "security.capability", capability)
        started.append(subprocess.Popen([program, "600"], user=user))
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.wait()
    shutil.rmtree(folder)


@pytest.fixture
def users():
    """Give a cgroup that the user owns, in one of root's that stands for the whole tree: others test here too."""
    directory = MOUNT / f"numad-py-users-{os.getpid()}/user"
    directory.mkdir(parents=True)
    os.chown(directory, USER, USER)
    yield directory
    remove(directory)
    directory.parent.rmdir()


def remove(directory):
    """Remove a cgroup whose processes have been killed, once they are gone."""
    deadline_s = time.monotonic() + 10
    while "populated 1" in (directory / "cgroup.events").read_text() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    directory.rmdir()


def enter(directory, *pids):
    for pid in pids:
        (directory / "cgroup.procs").write_text(str(pid))


def settled(pid, owners):
    """Wait until a process has exec'd what it was started for; say whether it then is who it should be."""
    deadline_s = time.monotonic() + 10
    while proc_status.owners(pid) != owners and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return proc_status.owners(pid) == owners


@pytest.fixture
def processes(start):
    """Give the PIDs of the user's own process, a setuid one, one with a capability, and root's."""
    own, setuid = start("own"), start("setuid", mode=0o4755)
    capable, roots = start("capable", capability=CAP_SYS_NICE), start("roots", user=0)
    assert settled(own, {USER})
    assert settled(setuid, {USER, 0})
    assert settled(capable, {USER, 0})
    assert settled(roots, {0})
    return own, setuid, capable, roots


def look(users, rules):
    """Look at the machine; give the commands of the jobs' processes, and why others were skipped."""
    eyes = LiveSensor(node_sysfs.read_topology(), Workers(), Jobs(users.parent, rules))
    snapshot = eyes.look()
    eyes.close()
    return [each.comm for each in snapshot.processes], {each.comm: each.why for each in snapshot.skipped}


SKIPPED = dict.fromkeys(
    ("setuid", "capable", "roots"), f"it belongs to uid 0, and uid {USER} labelled the job"
)


def test_a_label_on_a_users_directory_covers_that_users_own_processes_alone(users, processes):
    enter(users, *processes)
    cgroup.set_label(users, "default")

    assert look(users, ALLOWED) == (["own"], SKIPPED)


def test_a_label_that_a_user_said_through_the_socket_covers_no_more(users, processes):
    enter(users, *processes)
    os.chown(users, 0, 0)
    said = {cgroup.cgroup_id(users): Said(USER, "default")}

    assert look(users, Rules(user_profiles=ALLOWED.user_profiles, said=said)) == (["own"], SKIPPED)


def test_where_the_operator_allows_users_nothing_their_label_covers_nothing(users, processes):
    enter(users, *processes)
    cgroup.set_label(users, "default")

    assert look(users, Rules()) == ([], {})


def test_roots_label_covers_all(users, processes):
    enter(users, *processes)
    os.chown(users, 0, 0)
    cgroup.set_label(users, "default")

    seen, skipped = look(users, Rules())
    assert (sorted(seen), skipped) == (["capable", "own", "roots", "setuid"], {})


def test_a_job_that_begins_while_the_daemon_runs_is_seen_at_the_next_look(users, start):
    eyes = LiveSensor(
        node_sysfs.read_topology(),
        Workers(),
        Jobs(users.parent, ALLOWED),
        costs=Costs(budget_core_share=1),  # a slow host would look for jobs less often
    )
    eyes.look()
    job = users / "job"
    job.mkdir()
    os.chown(job, USER, USER)
    cgroup.set_label(job, "default")
    enter(job, pid := start("own"))
    assert settled(pid, {USER})
    time.sleep(1)

    during = eyes.look()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    remove(job)
    time.sleep(1)
    after = eyes.look()
    eyes.close()

    assert [(each.path, each.processes[0].comm) for each in during.jobs] == [("/user/job", "own")]
    assert after.jobs == ()
