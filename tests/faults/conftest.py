# SPDX-License-Identifier: Apache-2.0

"""A daemon as its users run it, and a labelled cgroup of our own, on this very machine."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup

PATIENCE_S = 120.0


class Daemon:
    """A running ``numad-py daemon``; ``lines`` is its log so far."""

    def __init__(self, folder, *options, config, through=(), stderr=subprocess.PIPE):
        self.config = folder / "numad.yaml"
        self.config.write_text(config)
        words = [
            *through,
            sys.executable,
            "-m",
            "numad_py",
            "daemon",
            "--config",
            self.config,
            "--verbose",
            *options,
        ]
        environment = os.environ | {"STATE_DIRECTORY": str(folder), "RUNTIME_DIRECTORY": str(folder)}
        self.process = subprocess.Popen(words, stderr=stderr, text=True, errors="replace", env=environment)
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr or ():
            self.lines.append(line)

    def said(self, *words):
        """Give the lines of the log that hold all of these words."""
        return [line for line in list(self.lines) if all(word in line for word in words)]

    def wait_for(self, *words, times=1):
        """Wait until so many lines hold all of these words; give the first."""
        until(lambda: len(self.said(*words)) >= times or self.process.poll() is not None)
        found = self.said(*words)
        assert len(found) >= times, f"never said {words}: {''.join(self.lines[-20:])}"
        return found[0]

    def turns(self, count=3):
        """Wait for so many more turns: it is alive, and looks."""
        self.wait_for("event=tick", times=len(self.said("event=tick")) + count)

    def strange(self):
        """Give the lines that are none of the log's: a traceback, a warning of Python's."""
        return [line for line in list(self.lines) if not line.startswith("level=")]

    def stop(self):
        """Tell it to end; give its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_S)

    def kill(self):
        """End it as a machine without memory does, and read the last of its log."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stderr:
            self.process.stderr.close()


def until(told, *, patience_s=PATIENCE_S):
    """Wait until it is so, or patience is at its end; say which."""
    end_s = time.monotonic() + patience_s
    while not (so := told()) and time.monotonic() < end_s:
        time.sleep(0.02)
    return so


def descriptors(pid):
    """Count what a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture
def daemon(tmp_path):
    """Give a function that starts the daemon with some options, and waits for its first turn."""
    started = []

    def start(*options, config="mode: act\nperiod_s: 0.1\n", **how):
        started.append(Daemon(tmp_path, *options, config=config, **how))
        if "stderr" not in how:
            started[-1].wait_for("event=tick")
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def group():
    """Give a function that makes a labelled cgroup of a name; all are removed at the end, with who is in them."""
    mount = cgroup.read_mount_point()
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root and cgroup v2")
    made = []

    def make(name="job", label="default"):
        made.append(mount / f"numad-py-faults-{os.getpid()}-{name}")
        made[-1].mkdir()
        os.setxattr(made[-1], cgroup.LABEL, label.encode())
        return made[-1]

    yield make
    for directory in reversed(made):
        remove(directory)


def remove(directory):
    """End every process of a cgroup, and remove it with all below it."""
    if not directory.exists():
        return
    (directory / "cgroup.kill").write_text("1")
    for each in sorted(directory.rglob("*"), reverse=True):
        if each.is_dir():
            assert until(lambda at=each: _removed(at))
    assert until(lambda: _removed(directory))


def _removed(directory):
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
