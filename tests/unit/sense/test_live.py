# SPDX-License-Identifier: Apache-2.0

"""The sensor sees a labelled process of this very machine, with its memory and its CPU time."""

import os
import subprocess
import sys
import time

import pytest

from numad_py.kernel import cgroup, node_sysfs
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import LiveSensor
from numad_py.workers import Workers

MIB = 1 << 20
JOB = """
memory = bytearray(50 << 20)
print("ready", flush=True)
while True:
    memory[::4096] = bytes(len(memory) // 4096)
"""


@pytest.fixture
def group():
    """Give a labelled cgroup with a busy process that has 50 MB."""
    mount = cgroup.read_mount_point()
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("needs root and cgroup v2")
    directory = mount / f"numad-py-sensor-{os.getpid()}"
    directory.mkdir()
    os.setxattr(directory, cgroup.LABEL, b"default")
    with subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE) as job:
        try:
            (directory / "cgroup.procs").write_text(str(job.pid))
            assert job.stdout.readline() == b"ready\n"
            yield directory, job.pid
        finally:
            job.kill()
            job.wait()
            for _ in range(100):
                if not cgroup.procs(directory):
                    break
                time.sleep(0.02)
            directory.rmdir()


def test_a_labelled_process_is_seen_with_its_memory_and_its_cpu_time(group):
    directory, pid = group
    eyes = LiveSensor(node_sysfs.read_topology(), Workers(), Jobs(cgroup.read_mount_point(), Rules()))
    eyes.look()
    time.sleep(0.3)

    snapshot = eyes.look()

    (job,) = [job for job in snapshot.jobs if job.path == f"/{directory.name}"]
    (process,) = job.processes
    assert process.key.pid == pid
    assert 50 * MIB <= process.regions.resident_bytes.sum() <= 100 * MIB
    assert process.threads.cpu_s.sum() > 0.03
    assert snapshot.skipped == ()
