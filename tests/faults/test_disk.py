# SPDX-License-Identifier: Apache-2.0

"""A disk that has no room ends the trace, and not the daemon."""

import os
import subprocess
import sys

import pytest

from numad_py import trace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")


@pytest.fixture
def disk(tmp_path):
    """Give a folder with room for some turns, and no more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "numad-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("options", [[], ["--trace-ring", "8M"]], ids=["file", "ring"])
def test_a_disk_that_fills_up_ends_the_trace_with_one_warning_and_the_daemon_goes_on(daemon, disk, options):
    path = disk / "trace.jsonl"
    running = daemon("--trace", path, *options)
    (disk / "others").write_bytes(bytes(12 << 10))

    running.wait_for("trace ended", "No space left on device")
    running.turns(5)
    status = running.stop()

    whole = list(trace.read(path)[1])  # as far as it goes: half a line would raise
    assert len(whole) < len(running.said("event=tick"))
    assert len(running.said("trace ended")) == 1
    assert status == 0


def test_a_disk_that_is_full_at_the_start_is_told_and_the_daemon_goes_on_without_a_trace(daemon, disk):
    (disk / "others").write_bytes(bytes(32 << 10))

    running = daemon("--trace", disk / "trace.jsonl")

    assert len(running.said("trace ended", "No space left on device")) == 1
    assert running.stop() == 0


def test_a_trace_in_a_folder_that_others_may_write_is_refused_at_the_start(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    words = [sys.executable, "-m", "numad_py", "daemon", "--trace", tmp_path / "shared/trace.jsonl"]
    environment = os.environ | {"STATE_DIRECTORY": str(tmp_path)}

    refused = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)

    assert refused.returncode == 1
    assert f"numad-py: {tmp_path}/shared: may be written by others (mode 0777)" in refused.stderr
    assert not list((tmp_path / "shared").iterdir())
