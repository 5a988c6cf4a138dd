# SPDX-License-Identifier: Apache-2.0

"""What tests in a guest share: the guest they are in, cgroups to label, little jobs to repair."""

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vm.forked import Forked
from tests.vm.guests import BY_NAME
from tests.vm.running import PATIENCE_S, Workload
from tests.vm.service import Daemon

HERE = Path(__file__).parent
CGROUPS = Path("/sys/fs/cgroup")
LABEL = "user.numad.policy"
GUEST = os.environ.get("NUMAD_VM_TESTS")  # set in every guest to its name, and nowhere else


def pytest_configure(config):
    config.addinivalue_line("markers", "guest(*names): the guests a test is for; without it, two-nodes")


def pytest_collection_modifyitems(config, items):
    # A folder's conftest sees every test of the run: those of other folders are none of its business.
    elsewhere = [item for item in items if GUEST and HERE in item.path.parents and GUEST not in _guests(item)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def _guests(item):
    marker = item.get_closest_marker("guest")
    return marker.args if marker else ("two-nodes",)


def pytest_runtest_setup(item):
    if GUEST is None:
        pytest.skip("needs a guest with several nodes; run `make vm`")


@pytest.fixture(autouse=True)
def _own_affinity_is_given_back():
    """Let no test leave this process, and so all that the next ones start, on fewer CPUs."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def promise():
    """Hold a figure to what is promised of it: ``promise("settled in s", 4.2, at_most=10)``.

    Times depend on what else the host does, so they are printed always, and held to with ``--timed`` only.
    """

    def figure(what, value, *, at_most):
        print(f"\n{what}: {value:.2f}, promised at most {at_most}", end="")
        assert value <= at_most or "NUMAD_VM_TIMED" not in os.environ

    return figure


@pytest.fixture(scope="session")
def guest():
    """Give the table's entry for the machine that this is."""
    return BY_NAME[GUEST]


@pytest.fixture(scope="session", autouse=True)
def _nodes_are_there(guest):
    online = Path("/sys/devices/system/node/online").read_text().strip()
    assert online == f"0-{len(guest.nodes) - 1}"


@dataclass
class Cgroup:
    """One cgroup of version 2, made for a test."""

    path: Path
    start_workload: object = field(repr=False)

    @property
    def id(self):
        return self.path.stat().st_ino

    def adopt(self, pid):
        """Move a process in; what it has allocated stays charged where it was."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def label(self, value="default"):
        os.setxattr(self.path, LABEL, value.encode())

    def start(self, kind, *options):
        """Start a workload that is born inside, so that its memory is charged here."""
        return self.start_workload(kind, *options, cgroup=self)

    def remove(self):
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.kill").write_text("1")
            # cgroup.procs can be empty while threads of a killed process still end, and rmdir says EBUSY until then.
            _wait_until(lambda: "populated 0" in (self.path / "cgroup.events").read_text())
            self.path.rmdir()


def _wait_until(done, limit_s=PATIENCE_S):
    until_s = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until_s, "a cgroup did not empty after cgroup.kill"
        time.sleep(0.02)


@pytest.fixture
def program():
    """Start programs that speak as tests.vm.workloads does; all are killed at the end."""
    running = []

    def start(*words, cgroup=None):
        if cgroup:
            words = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(cgroup.path), *words]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(Workload(process))
        return running[-1].await_ready()

    yield start
    for one in running:
        one.close()


@pytest.fixture
def workload(program):
    """Start workloads: ``workload("late-bound", "--mb=200")``."""

    def start(kind, *options, cgroup=None):
        return program(sys.executable, "-m", "tests.vm.workloads", kind, *options, cgroup=cgroup)

    return start


@pytest.fixture
def job(workload):
    """Make cgroups: ``job()``, ``job(memory=True)`` for one that has the memory controller."""
    made = []

    def make(name="job", *, memory=False):
        (CGROUPS / "cgroup.subtree_control").write_text("+memory" if memory else "-memory")
        path = CGROUPS / f"{name}-{len(made)}"
        path.mkdir()
        made.append(Cgroup(path, workload))
        return made[-1]

    yield make
    for cgroup in reversed(made):
        cgroup.remove()
    (CGROUPS / "cgroup.subtree_control").write_text("-memory")


@pytest.fixture
def daemon(tmp_path):
    """Run the daemon: ``daemon(mode="act")`` starts one and waits until it is ready."""
    running = []

    def start(*options, **config):
        folder = tmp_path / f"daemon-{len(running)}"
        folder.mkdir()
        running.append(Daemon(folder, *options, run=Forked, **config))
        return running[-1]

    yield start
    for one in running:
        one.stop()
