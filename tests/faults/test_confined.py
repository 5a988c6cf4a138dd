# SPDX-License-Identifier: Apache-2.0

"""A daemon without memory to spare, without rights, without perf, without NUMA: it says what it lacks, and goes on."""

import errno
import os
import shutil
from itertools import islice
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from numad_py.daemon.config import Config, Mode
from numad_py.daemon.service import Service
from numad_py.kernel import perf_events
from tests.fake_root import MEMINFO, FakeRoot
from tests.faults.conftest import remove

MIB = 1 << 20
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")


@pytest.fixture
def limited():
    """Give a function that puts a process into a cgroup with so much memory."""
    controllers = V2 / "cgroup.controllers"
    v2 = controllers.exists() and "memory" in controllers.read_text().split()
    top, limit = (V2, "memory.max") if v2 else (V1, "memory.limit_in_bytes")
    if os.geteuid() != 0 or not (v2 or (V1 / limit).exists()):
        pytest.skip("needs root and the memory controller")
    if v2:
        (V2 / "cgroup.subtree_control").write_text("+memory")
    directory = top / f"numad-py-faults-{os.getpid()}-memory"
    directory.mkdir()

    def limit_to(size_bytes, pid):
        (directory / "cgroup.procs").write_text(str(pid))
        (directory / limit).write_text(str(size_bytes))
        return directory

    yield limit_to
    if v2:
        remove(directory)
    else:
        directory.rmdir()


def test_a_daemon_with_little_memory_of_its_own_lives_within_it(daemon, limited):
    running = daemon()
    directory = limited(160 * MIB, running.process.pid)

    running.turns(20)
    status = running.stop()

    events = (directory / "memory.events").read_text() if (directory / "memory.events").exists() else ""
    assert status == 0
    assert running.strange() == []
    assert "oom_kill 0" in events or not events


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_without_any_right_it_observes_and_says_loudly_what_it_lacks(daemon):
    running = daemon(through=WITHOUT_RIGHTS)

    running.turns()

    assert running.said("level=warning", "lacking", "CAP_SYS_PTRACE")
    assert running.said("level=warning", "lacking", "CAP_SYS_NICE")
    assert running.said("not acting", "rights: neither CAP_SYS_PTRACE nor CAP_SYS_NICE")
    assert running.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
@pytest.mark.parametrize(("kept", "lacked"), [("sys_ptrace", "CAP_SYS_NICE"), ("sys_nice", "CAP_SYS_PTRACE")])
def test_without_one_right_it_goes_on_with_the_other_and_says_what_it_lacks(daemon, kept, lacked):
    running = daemon(through=("setpriv", f"--bounding-set=-all,+{kept}", "--inh-caps=-all"))

    running.turns()

    assert [line for line in running.said("level=warning", "lacking") if lacked in line]
    assert len(running.said("level=warning", "lacking")) == 1
    assert not running.said("not acting", "rights:")
    assert running.stop() == 0


@pytest.fixture
def fake(tmp_path):
    (tmp_path / "root").mkdir()
    return FakeRoot(tmp_path / "root")


def test_a_kernel_without_perf_counts_nothing_says_so_and_places_all_the_same(fake, monkeypatch):
    def no_perf(*_words, **_named):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(perf_events, "open_event", no_perf)
    fake.process(100)
    fake.job(pids=[100])
    with capture_logs() as log:
        ticks = list(islice(Service(Config(period_s=0.1), root=fake.root).ticks(), 3))

    assert [len(tick.snapshot.processes) for tick in ticks] == [1, 1, 1]
    assert any(line["event"] == "not seen" and "page-faults" in line["why"] for line in log)


def test_a_kernel_without_numa_is_one_node_on_which_nothing_is_moved(fake):
    shutil.rmtree(fake.root / "sys/devices/system/node")
    fake.write("sys/devices/system/cpu/online", "0-3\n")
    kib = "".join(f"{name}: {1 << 20} kB\n" for name in MEMINFO)
    fake.write("proc/meminfo", kib)
    fake.process(100)
    fake.job(pids=[100])
    service = Service(Config(mode=Mode.ACT, period_s=0.1), root=fake.root)

    ticks = list(islice(service.ticks(), 3))

    assert [tick.snapshot.topology.node_ids for tick in ticks] == [(0,)] * 3
    assert service.gate.closed_by == {"one node": "there is nothing to move"}
