# SPDX-License-Identifier: Apache-2.0

"""A daemon that crashes time and again, or a kernel that is not well, makes it observe until told to resume."""

import errno

import pytest
from structlog.testing import capture_logs

from numad_py.act.gate import Gate
from numad_py.daemon import state
from numad_py.daemon.health import Health


@pytest.fixture
def machine(tmp_path):
    """Give a machine whose kernel is well."""
    return Machine(tmp_path)


class Machine:
    """A state folder, a kernel's alarms and a clock; each start is a new daemon's."""

    def __init__(self, root):
        self.root = root
        self.now_s = 1000.0
        for path in ("state", "proc/sys/kernel/random", "sys/kernel"):
            (root / path).mkdir(parents=True)
        self.boot("one")
        self.write("proc/sys/kernel/tainted", 0)

    def boot(self, boot_id):
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{boot_id}\n")

    def write(self, path, number):
        (self.root / path).write_text(f"{number}\n")

    def start(self, after_s=1.0):
        self.now_s += after_s
        self.gate = Gate()
        health = Health(self.root / "state", self.gate, self.root, lambda: self.now_s)
        health.begin()
        return health


def test_two_crashes_are_borne_and_the_third_makes_it_observe(machine):
    open_at_start = []
    for _ in range(4):
        machine.start()
        open_at_start.append(machine.gate.is_open)

    assert open_at_start == [True, True, True, False]
    assert machine.gate.closed_by == {"health": "3 crashes within 10 minutes"}


def test_an_orderly_end_is_no_crash(machine):
    for _ in range(5):
        machine.start().end()

    assert machine.gate.is_open


def test_crashes_far_apart_are_borne(machine):
    for _ in range(6):
        machine.start(after_s=301.0)

    assert machine.gate.is_open


def test_a_machine_that_went_down_is_no_crash(machine):
    for boot in range(6):
        machine.boot(f"boot-{boot}")
        machine.start()

    assert machine.gate.is_open


def test_it_observes_at_every_start_until_told_to_resume(machine):
    for _ in range(4):
        health = machine.start()
    health.end()
    health = machine.start(after_s=3600.0)
    observed_on = not machine.gate.is_open

    health.resume()
    resumed = machine.gate.is_open
    health.end()
    machine.start()

    assert (observed_on, resumed, machine.gate.is_open) == (True, True, True)


@pytest.mark.parametrize(
    ("path", "number", "why"),
    [
        ("proc/sys/kernel/tainted", 1 << 7, "the kernel oopsed"),
        ("proc/sys/kernel/tainted", 1 << 9 | 1 << 12, "the kernel warned: see its log"),
        ("sys/kernel/oops_count", 1, "the kernel oopsed"),
        ("sys/kernel/warn_count", 1, "the kernel warned: see its log"),
    ],
)
def test_a_kernel_that_warns_or_oopses_makes_it_observe(machine, path, number, why):
    if path.startswith("sys/"):
        machine.write(path, 0)
    health = machine.start()
    health.turn()
    was_open = machine.gate.is_open

    machine.write(path, number)
    with capture_logs() as log:
        health.turn()
        health.turn()

    assert was_open
    assert machine.gate.closed_by == {"health": why}
    assert [(line["event"], line["why"]) for line in log] == [("not well", why)]


def test_a_kernel_tainted_before_the_start_is_taken_as_it_is(machine):
    machine.write("proc/sys/kernel/tainted", 1 << 9 | 1 << 7)

    machine.start().turn()

    assert machine.gate.is_open


def test_after_resuming_only_a_new_warning_counts(machine):
    machine.write("sys/kernel/warn_count", 0)
    health = machine.start()
    machine.write("sys/kernel/warn_count", 1)
    health.turn()
    health.resume()
    health.turn()
    stayed_open = machine.gate.is_open

    machine.write("sys/kernel/warn_count", 2)
    health.turn()

    assert (stayed_open, machine.gate.is_open) == (True, False)


def test_taints_of_other_kinds_say_nothing_of_its_health(machine):
    health = machine.start()
    machine.write("proc/sys/kernel/tainted", 1 << 12 | 1)

    health.turn()

    assert machine.gate.is_open


def test_a_disk_without_room_for_what_it_remembers_is_told_and_ends_nothing(machine, monkeypatch):
    def full(_path, _value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "save", full)

    with capture_logs() as log:
        machine.start().end()

    assert machine.gate.is_open
    assert {line["event"] for line in log} == {"state not kept"}
