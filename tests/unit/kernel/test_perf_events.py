# SPDX-License-Identifier: Apache-2.0

"""The kernel counts what a process does: a known number comes out as that number."""

import os
from pathlib import Path

import pytest

from numad_py.kernel import perf_events, perf_groups, perf_refusals
from numad_py.kernel.perf_events import (
    CONTEXT_SWITCHES,
    CPU_CYCLES,
    CPU_MIGRATIONS,
    PAGE_FAULTS,
    Event,
    Field,
    Sampling,
)
from numad_py.kernel.perf_groups import Group, Target
from tests.counted import CPUS, Child, faults

NUMBER = 500
FEW = 64  # faults of the interpreter itself
UNKNOWN = Event("no PMU has this type", 0x7FFF_FFFF, 0)


@pytest.fixture(autouse=True)
def _events_are_allowed():
    try:
        os.close(perf_events.open_event(PAGE_FAULTS, pid=0))
    except OSError as error:
        pytest.skip(perf_refusals.why(error))


@pytest.fixture
def child():
    with Child() as child:
        yield child


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_fresh_pages_are_as_many_faults():
    event = perf_events.open_event(PAGE_FAULTS, pid=0)
    try:
        perf_events.enable(event)
        faults(NUMBER)
        perf_events.disable(event)
        faults(NUMBER)
        reading = perf_events.read(event)
    finally:
        os.close(event)

    assert NUMBER <= reading.value <= NUMBER + FEW
    assert 0 < reading.running_ns == reading.enabled_ns


def test_faults_of_user_space_can_be_counted_alone():
    event = perf_events.open_event(PAGE_FAULTS, pid=0, user_only=True)
    try:
        perf_events.enable(event)
        faults(NUMBER)
        assert NUMBER <= perf_events.read(event).value <= NUMBER + FEW
    finally:
        os.close(event)


def test_a_sampling_event_counts_too_and_takes_a_new_period():
    sampling = Sampling(period=1000, fields=Field.TID | Field.ADDR, wakeup_bytes=4096)
    event = perf_events.open_event(PAGE_FAULTS, pid=0, sampling=sampling)
    try:
        perf_events.set_period(event, 500)
        perf_events.enable(event)
        faults(NUMBER)
        assert perf_events.read(event).value >= NUMBER
    finally:
        os.close(event)


def test_a_group_counts_faults_switches_and_migrations_at_once(child):
    group = Group((PAGE_FAULTS, CONTEXT_SWITCHES, CPU_MIGRATIONS), [Target(pid=child.pid)])
    switched = child.switches()
    group.change()
    child.tell("faults", NUMBER)
    child.tell("sleeps", NUMBER)
    child.tell("hops", NUMBER)
    switched = child.switches() - switched

    ((_, enabled, running, faulted, switches, migrations),) = group.change()
    group.close()

    assert enabled == running > 0
    assert NUMBER <= faulted <= NUMBER + FEW
    assert switches >= NUMBER
    assert abs(switches - switched) <= 2  # one more or less between two readings
    assert migrations == (NUMBER if len(CPUS) > 1 else 0)


def test_threads_born_later_are_counted_with_the_one_that_bore_them(child):
    group = Group((PAGE_FAULTS,), [Target(pid=child.pid)])
    child.tell("thread", "faults", NUMBER)

    ((_, _, _, faulted),) = group.change()
    group.close()

    assert NUMBER <= faulted <= NUMBER + FEW


def test_a_change_is_what_came_since_the_last():
    group = Group((PAGE_FAULTS,), [Target(pid=0)])
    faults(NUMBER)
    group.change()

    ((_, _, _, faulted),) = group.change()
    group.close()

    assert faulted <= FEW


def test_a_thread_that_is_gone_is_left_out():
    with Child() as child:
        gone = child.pid
    group = Group((PAGE_FAULTS,), [Target(pid=gone), Target(pid=0)])

    assert len(group) == 1
    assert group.change().shape == (1, 4)
    group.close()


def test_what_cannot_be_had_leaves_nothing_open():
    before = descriptors()

    with pytest.raises(OSError, match="perf_event_open"):
        Group((PAGE_FAULTS, UNKNOWN), [Target(pid=0)])

    assert descriptors() == before


def test_a_group_gives_its_descriptors_back(child):
    before = descriptors()
    group = Group((PAGE_FAULTS, CONTEXT_SWITCHES), [Target(pid=child.pid), Target(pid=0)])
    assert descriptors() == before + len(group) == before + 4

    group.close()

    assert descriptors() == before
    assert len(group) == 0


def test_events_that_cannot_be_had_are_told_from_those_that_can():
    before = descriptors()

    usable, refused = perf_groups.usable((UNKNOWN, PAGE_FAULTS, CONTEXT_SWITCHES))

    assert usable == (PAGE_FAULTS, CONTEXT_SWITCHES)
    assert [(event, type(error)) for event, error in refused] == [(UNKNOWN, FileNotFoundError)]
    assert descriptors() == before


def test_the_cpu_counts_cycles_or_it_is_said_why_not():
    usable, refused = perf_groups.usable((CPU_CYCLES,))

    if usable:
        group = Group(usable, [Target(pid=0)])
        sum(range(100_000))
        assert group.change()[0, -1] > 100_000
        group.close()
    else:
        assert "no CPU counters" in perf_refusals.why(refused[0][1])
