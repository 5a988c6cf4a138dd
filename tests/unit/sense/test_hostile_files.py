# SPDX-License-Identifier: Apache-2.0

"""Whatever a process's files hold, or answer, a look goes on: others are seen, and this one is left out with a reason."""

import itertools
import re
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numad_py.kernel import node_sysfs
from numad_py.sense.further import FurtherSenses
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import LiveSensor
from numad_py.workers import Workers
from tests.fake_root import FORBIDDEN, FakeRoot

HOSTILE, HARMLESS = 100, 200
OF_A_PROCESS = ("maps", "numa_maps", "stat", "status", "task/100/stat", "task")  # what is within comes before
OF_A_JOB = ("cgroup.procs", "memory.numa_stat")
OF_THE_MACHINE = (
    "proc/vmstat",
    "proc/zoneinfo",
    "sys/devices/system/node/node0/meminfo",
    "sys/devices/system/node/node1/meminfo",
)
NUMBERS = (b"", b"-1", b"0", b"4294967296", b"9" * 19, b"9" * 40, b"9" * 5000, b"0x7", b"\xd9\xa3")


def cut(text, draw):
    return text[: draw(st.integers(0, len(text)))]


def with_another_number(text, draw):
    found = draw(st.sampled_from(list(re.finditer(rb"[0-9]+", text)) or [re.search(b"", text)]))
    return text[: found.start()] + draw(st.sampled_from(NUMBERS)) + text[found.end() :]


def with_garbage(text, draw):
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.binary(max_size=40)) + text[at + draw(st.integers(0, 40)) :]


CONTENTS = (cut, with_another_number, with_garbage)
# What open or read answer instead: EACCES, EIO (nothing is mapped at address 0), ELOOP, EISDIR, ENOENT.
ANSWERS = {
    "EACCES": lambda path: path.symlink_to(FORBIDDEN),
    "EIO": lambda path: path.symlink_to("/proc/self/mem"),
    "ELOOP": lambda path: path.symlink_to(path.name),
    "EISDIR": lambda path: path.mkdir(),
    "ENOENT": lambda _path: None,
}


def spoil(path, draw):
    """Let a file hold, or answer, something else."""
    aside = path.with_name(f".{path.name}")
    how = draw(st.sampled_from([*ANSWERS, *CONTENTS]))
    if how in ANSWERS or path.is_dir():
        path.rename(aside)
        ANSWERS.get(how, ANSWERS["ENOENT"])(path)
    else:
        path.write_bytes(how(path.read_bytes(), draw))


class World:
    """A machine with a hostile and a harmless process in one job, at which one sensor looks again and again."""

    def __init__(self, root):
        self.fake = FakeRoot(root)
        self.seconds = itertools.count(0, 30)
        for pid in (HOSTILE, HARMLESS):
            self.fake.process(pid, pages={0: 30, 1: 70}, ticks={pid: (2, 5)})
        self.job = self.fake.job(pids=[HOSTILE, HARMLESS], charged={0: 240, 1: 560})
        self.eyes = LiveSensor(
            node_sysfs.read_topology(self.fake.root, page_bytes=4096),
            Workers(),
            Jobs(self.fake.mount, Rules()),
            root=self.fake.root,
            further=self.further,
            now=lambda: next(self.seconds),
        )

    def further(self, topology):
        root = self.fake.root
        state = root / "damon"
        return FurtherSenses(
            topology, mount=self.fake.mount, core_share=1, investigate=True, damon_state=state, root=root
        )

    def run_on(self):
        """Let both processes run, and get pages, so that all of their files are read again."""
        for pid in (HOSTILE, HARMLESS):
            self.fake.process(pid, pages={0: 30, 1: 170}, ticks={pid: (2, 50)}, faults=100)

    def seen(self):
        snapshot = self.eyes.look()
        told = {process.key.pid for process in snapshot.processes}
        return told, {skipped.process.pid: skipped.why for skipped in snapshot.skipped}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    return lambda: World(tmp_path_factory.mktemp("world"))


@settings(max_examples=30)
@given(st.data())
def test_a_process_with_spoilt_files_is_left_out_with_a_reason_and_others_are_seen(worlds, data):
    world = worlds()
    if data.draw(st.booleans(), "known before"):
        world.seen()
        world.run_on()
    for name in sorted(data.draw(st.sets(st.sampled_from(OF_A_PROCESS), min_size=1)), key=OF_A_PROCESS.index):
        spoil(world.fake.root / f"proc/{HOSTILE}" / name, data.draw)

    for _ in range(3):
        told, skipped = world.seen()

        assert HARMLESS in told
        assert HOSTILE not in told or HOSTILE not in skipped


@settings(max_examples=30)
@given(st.data())
def test_a_job_whose_own_files_are_spoilt_ends_no_look(worlds, data):
    world = worlds()
    if data.draw(st.booleans(), "known before"):
        world.seen()
        world.run_on()
    for name in data.draw(st.sets(st.sampled_from(OF_A_JOB), min_size=1)):
        spoil(world.job / name, data.draw)

    for _ in range(3):
        assert world.seen()[0] <= {HOSTILE, HARMLESS}


@settings(max_examples=30)
@given(st.data())
def test_where_the_machines_own_files_are_spoilt_there_is_no_room_and_the_look_goes_on(worlds, data):
    world = worlds()
    world.seen()
    for name in data.draw(st.sets(st.sampled_from(OF_THE_MACHINE), min_size=1)):
        spoil(world.fake.root / name, data.draw)

    for _ in range(3):
        world.run_on()
        assert world.seen()[0] == {HOSTILE, HARMLESS}


@pytest.mark.parametrize("changes", [False, True], ids=["nothing new", "a cgroup came"])
def test_without_a_descriptor_left_a_look_goes_on_and_the_next_sees_all_again(worlds, changes):
    world = worlds()
    for _ in range(3):  # so that Python has imported what it imports late
        world.seen()
        world.run_on()
    if changes:
        world.fake.job("another", pids=[])
    ours, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))

    try:
        world.eyes.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ours, most))

    for _ in range(4):
        world.run_on()
        told, _ = world.seen()
    assert told == {HOSTILE, HARMLESS}
    assert not changes or "/another" in {job.path for job in world.eyes.look().jobs}
