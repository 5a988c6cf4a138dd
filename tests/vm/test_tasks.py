# SPDX-License-Identifier: Apache-2.0

"""On two real nodes threads follow their memory, and they and their children get back what they had, however the daemon ends."""

import os
import time
from pathlib import Path

import pytest

from numad_py.act.affinity_journal import Narrowed
from numad_py.act.gate import Gate
from numad_py.act.tasks import TaskMover
from numad_py.daemon import kept
from numad_py.model import MoveTasks, Reason
from numad_py.workers import Workers
from tests.jobs import CPUS, new_job  # noqa: F401 - a fixture
from tests.vm import observer
from tests.vm.running import PATIENCE_S

CGROUPS = Path("/sys/fs/cgroup")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
CHILDREN = 20
NODE_0 = [0]


def cpu_of(pid):
    """Give the CPU that a process ran on last: field 39 of its stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[36])


@pytest.fixture
def job(new_job):  # noqa: F811
    """Give a job that nobody bound: its memory is on node 0, and it runs on node 1."""
    DROP_CACHES.write_text("1")  # else a node 0 full of page cache lets the memory go to the other
    job = new_job()
    job.process = job.start()
    job.process.tell("bind", 0).tell("allocate", 64).tell("bind", 1).tell("bind", *CPUS).tell("spin")
    return job


@pytest.fixture
def narrowed(job, daemon):
    """Give the job once its threads were moved to their memory, and it has forked; and the daemon."""
    service = daemon(program="tests.moving_tasks", mode="act", profiles="[tasks]")
    os.setxattr(job.directory, "user.numad.policy", b"tasks")
    service.wait_for("tasks moved")
    job.node = observer.resident_bytes(job.process.pid, files=False).most_common(1)[0][0]
    until_s = time.monotonic() + PATIENCE_S
    while any(mask != [job.node] for mask in job.masks()) and time.monotonic() < until_s:
        time.sleep(0.1)
    job.process.tell("fork", CHILDREN)
    assert job.masks() == [[job.node]] * (2 + CHILDREN)  # the parent spins in a thread of its own
    assert cpu_of(job.process.pid) == job.node
    return job, service


def test_after_a_stop_the_job_and_its_children_have_what_they_had(narrowed):
    job, service = narrowed

    service.stop()

    assert job.masks() == [CPUS] * (2 + CHILDREN)
    assert any("affinities restored" in line and "threads=22" in line for line in service.log)


def test_after_kill_9_the_next_start_gives_them_what_they_had(narrowed, daemon):
    job, service = narrowed
    service.process.kill()
    service.process.wait()
    killed = job.masks()

    again = daemon()

    assert killed == [[job.node]] * (2 + CHILDREN)
    assert job.masks() == [CPUS] * (2 + CHILDREN)
    assert any("affinities restored" in line and "threads=22" in line for line in again.log)


@pytest.fixture
def cpusets():
    """Let cgroups have cpusets, for the length of a test."""
    control = CGROUPS / "cgroup.subtree_control"
    control.write_text("+cpuset")
    yield
    control.write_text("-cpuset")


@pytest.mark.guest("two-nodes", "four-nodes")
@pytest.mark.usefixtures("cpusets")
def test_what_a_cpuset_reset_or_hid_is_given_back_for_good(new_job, tmp_path):  # noqa: F811
    """Linux 6.1 resets masks when the cpuset changes; since 6.2 they are hidden, and come back."""
    job = new_job()
    one, allowed = job.start(), job.directory / "cpuset.cpus"
    noted = Narrowed(job.cgroup_id, str(job.directory))
    journal = kept.journal(tmp_path)
    mover = TaskMover(journal, lambda _: noted, Workers(), Gate())
    mover.move([MoveTasks(one.key, (0,), Reason.TASKS_FOLLOW_MEMORY)], time.monotonic() + 10)
    one.tell("fork", 2)
    narrowed = job.masks()

    seen = {}
    for cpus in ("1", "0-1"):
        allowed.write_text(cpus)
        journal.tidy()
        seen[cpus] = job.masks()
    kept.journal(tmp_path).restore()
    for cpus in ("0", "0-1"):
        allowed.write_text(cpus)

    print(f"\nwith the cpuset away, and back: {seen}", end="")
    assert narrowed == [NODE_0] * 3
    assert seen["1"] == [[1]] * 3
    assert seen["0-1"] in ([NODE_0] * 3, [CPUS] * 3)
    assert job.masks() == [CPUS] * 3
