# SPDX-License-Identifier: Apache-2.0

"""What labelled jobs of this machine do is recorded, hidden if asked, and can be replayed."""

import os
import subprocess
import sys
import time

import pytest
import structlog

from numad_py import trace
from numad_py.cli.record import record
from numad_py.cli.simulate import simulate
from numad_py.kernel import cgroup

JOB = """
memory = bytearray(20 << 20)
print("ready", flush=True)
while True:
    memory[::4096] = bytes(len(memory) // 4096)
"""


@pytest.fixture(scope="module")
def group():
    """Give the name of a labelled cgroup with a busy process."""
    mount = cgroup.read_mount_point()
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("needs root and cgroup v2")
    directory = mount / f"numad-py-record-{os.getpid()}"
    directory.mkdir()
    os.setxattr(directory, cgroup.LABEL, b"default")
    with subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE) as job:
        try:
            (directory / "cgroup.procs").write_text(str(job.pid))
            assert job.stdout.readline() == b"ready\n"
            yield directory.name
        finally:
            job.kill()
            job.wait()
            while cgroup.procs(directory):
                time.sleep(0.02)
            directory.rmdir()


@pytest.fixture(autouse=True)
def log_as_before():
    """Forget the log that a verb set up, whose stream is this test's."""
    yield
    structlog.reset_defaults()


def test_a_job_is_recorded_for_as_long_as_was_asked_and_can_be_replayed(group, tmp_path, capsys):
    path = tmp_path / "a.jsonl.zst"

    record(path, duration_s=0.5, period_s=0.1)

    _, ticks = trace.read(path)
    ticks = list(ticks)
    (job,) = [job for job in ticks[-1].snapshot.jobs if job.path == f"/{group}"]
    assert f"replay them with: numad-py simulate {path}" in capsys.readouterr().out
    assert 0.4 < ticks[-1].snapshot.time_s - ticks[0].snapshot.time_s < 2
    assert job.processes[0].regions.resident_bytes.sum() > 20 << 20
    assert not any(tick.plan.moves for tick in ticks)
    simulate([path])
    assert "a.jsonl.zst: " in capsys.readouterr().out


def test_an_anonymised_trace_names_nobody_and_can_be_replayed(group, tmp_path, capsys):
    path = tmp_path / "a.jsonl"

    record(path, duration_s=0.5, period_s=0.1, anonymise=True)

    header, ticks = trace.read(path)
    text = path.read_text()
    assert header.anonymised
    assert len(list(ticks)) >= 2
    assert [name for name in (group, "python3", os.uname().release) if name in text] == []
    simulate([path])
    assert "a.jsonl: " in capsys.readouterr().out
