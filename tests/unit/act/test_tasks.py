# SPDX-License-Identifier: Apache-2.0

"""Threads are given the CPUs of a node, but those that somebody bound or that nobody may move; and get back what they had."""

import os
import threading
import time

import msgspec
import pytest

from numad_py.act import tasks
from numad_py.act.affinity_journal import Affinities, AffinityJournal, Narrowed, Restored
from numad_py.act.gate import Gate
from numad_py.act.masks import Masks
from numad_py.act.tasks import TaskMover
from numad_py.kernel import cgroup
from numad_py.model import Ending, MoveTasks, ProcessKey, Reason
from numad_py.workers import Workers
from tests.jobs import CPUS, FIRST, REST, new_job, real_root  # noqa: F401 - fixtures

BOOT = "0d5f8b7e"


class Disk:
    """What is on disk, as bytes; ``fails`` is raised where it is written."""

    def __init__(self):
        self.bytes = None
        self.writes = 0
        self.fails = None

    def save(self, affinities):
        if self.fails:
            raise self.fails
        self.bytes = msgspec.json.encode(affinities)
        self.writes += 1

    def load(self):
        return msgspec.json.decode(self.bytes, type=Affinities) if self.bytes else None


class Machine:
    """One job, and daemons that come and go over what is on disk."""

    def __init__(self, job, root):
        self.job, self.root = job, root
        self.disk, self.gate = Disk(), Gate()
        self.start()

    def start(self, boot=BOOT):
        masks = Masks(cgroup.read_mount_point(), self.root)
        self.journal = AffinityJournal(masks, boot, self.disk.load(), self.disk.save)
        self.mover = TaskMover(self.journal, self.job_of, Workers(), self.gate, self.root)

    def job_of(self, _process):
        return Narrowed(self.job.cgroup_id, str(self.job.directory))

    def move(self, process, *nodes, seconds=5.0):
        wish = MoveTasks(process.key, nodes, Reason.TASKS_FOLLOW_MEMORY)
        (outcome,) = self.mover.move([wish], time.monotonic() + seconds)
        return outcome


@pytest.fixture
def machine(new_job, real_root):  # noqa: F811
    return Machine(new_job(), real_root)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_all_threads_of_a_process_are_given_the_cpus_of_the_node(machine):
    one = machine.job.start().tell("threads", 3)

    outcome = machine.move(one, 0)

    assert (outcome.ending, outcome.moved_threads, outcome.failed) == (Ending.DONE, 4, {})
    assert machine.job.masks() == [FIRST] * 4


def test_twenty_children_that_inherited_it_are_given_back_what_the_parent_had(machine):
    one = machine.job.start()
    machine.move(one, 0)
    one.tell("fork", 20)

    narrowed = machine.job.masks()
    restored = machine.journal.restore()

    assert narrowed == [FIRST] * 21
    assert restored == Restored(21)
    assert machine.job.masks() == [CPUS] * 21


def test_after_a_kill_the_next_start_restores_whoever_was_born_meanwhile(machine):
    one = machine.job.start()
    machine.move(one, 0)
    one.tell("fork", 20)

    machine.start()
    restored = machine.journal.restore()

    assert restored == Restored(21)
    assert machine.job.masks() == [CPUS] * 21
    assert machine.disk.load() == Affinities(BOOT)


def test_a_thread_that_its_owner_has_rebound_since_is_left(machine):
    one, other = machine.job.start(), machine.job.start()
    machine.move(one, 0)
    machine.move(other, 0)
    other.tell("bind", *REST)

    restored = machine.journal.restore()

    assert restored == Restored(1, left_alone=1)
    assert machine.job.masks() == sorted([CPUS, REST])


def test_a_thread_that_somebody_bound_is_left_and_its_process_refused(machine):
    one = machine.job.start().tell("bind", *REST)

    outcome = machine.move(one, 0)

    assert (outcome.ending, outcome.failed) == (Ending.REFUSED, {"bound": 1})
    assert machine.job.masks() == [REST]
    assert machine.disk.writes == 0


def test_a_real_time_thread_is_left(machine):
    one = machine.job.start().tell("threads", 1).tell("real-time")

    outcome = machine.move(one, 0)

    assert (outcome.ending, outcome.moved_threads, outcome.failed) == (Ending.DONE, 1, {"real-time": 1})
    assert sorted(os.sched_getaffinity(one.pid)) == CPUS


def test_the_cpus_that_a_thread_of_the_job_was_bound_to_are_given_to_no_other(machine):
    """Afterwards nobody could tell who has them from us."""
    bound, free = machine.job.start().tell("bind", *FIRST), machine.job.start()

    outcome = machine.move(free, 0)
    restored = machine.journal.restore()

    assert outcome.ending is Ending.REFUSED
    assert "bound to exactly these CPUs" in outcome.detail
    assert restored == Restored()
    assert sorted(os.sched_getaffinity(bound.pid)) == FIRST
    assert sorted(os.sched_getaffinity(free.pid)) == CPUS


def test_where_nothing_changes_nothing_is_written(machine):
    one = machine.job.start()
    machine.move(one, 0, 1)
    never = machine.disk.writes
    machine.move(one, 0)
    machine.move(one, 0)

    assert never == 0
    assert machine.disk.writes == 1


def test_a_process_that_is_moved_on_gets_back_what_it_had_at_first(machine):
    one = machine.job.start()
    for node in (0, 1, 0):
        assert machine.move(one, node).moved_threads == 1

    machine.journal.restore()

    assert machine.job.masks() == [CPUS]


def test_all_nodes_are_what_it_had_at_first(machine):
    one = machine.job.start()
    machine.move(one, 0)

    outcome = machine.move(one, 0, 1)

    assert (outcome.ending, outcome.moved_threads) == (Ending.DONE, 1)
    assert machine.job.masks() == [CPUS]


def test_it_is_on_disk_before_the_first_thread_is_changed(machine):
    one = machine.job.start()
    machine.disk.fails = OSError(28, "No space left on device")

    outcome = machine.move(one, 0)

    assert outcome.ending is Ending.REFUSED
    assert "No space left" in outcome.detail
    assert machine.job.masks() == [CPUS]


def test_after_a_crash_before_the_first_change_there_is_nothing_to_restore(machine, monkeypatch):
    one = machine.job.start()
    monkeypatch.setattr(Workers, "run", lambda *_: pytest.fail("crashed"))
    with pytest.raises(pytest.fail.Exception, match="crashed"):
        machine.move(one, 0)

    machine.start()
    restored = machine.journal.restore()

    assert restored == Restored()
    assert machine.job.masks() == [CPUS]
    assert machine.disk.load() == Affinities(BOOT)


def test_after_a_crash_in_the_middle_those_that_were_changed_are_restored(machine, monkeypatch):
    one = machine.job.start().tell("threads", 3)
    change, calls = os.sched_setaffinity, iter(range(2))

    def crash_at_the_third(tid, cpus):
        if next(calls, None) is None:
            raise SystemExit("crashed")
        change(tid, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", crash_at_the_third)
    with pytest.raises(SystemExit):
        machine.move(one, 0)
    monkeypatch.undo()
    half = machine.job.masks()

    machine.start()
    restored = machine.journal.restore()

    assert half == sorted([FIRST, FIRST, CPUS, CPUS])
    assert restored == Restored(2)
    assert machine.job.masks() == [CPUS] * 4


def test_a_crash_while_restoring_is_made_good_at_the_next_start(machine):
    one = machine.job.start()
    machine.move(one, 0)
    one.tell("fork", 3)
    machine.disk.fails = SystemExit("crashed")
    with pytest.raises(SystemExit):
        machine.journal.restore()
    machine.disk.fails = None

    machine.start()
    machine.journal.restore()

    assert machine.job.masks() == [CPUS] * 4
    assert machine.disk.load() == Affinities(BOOT)


def test_threads_born_while_it_is_narrowed_are_narrowed_too(machine):
    one = machine.job.start()
    born, stop = [], threading.Event()

    def bear():
        while not stop.is_set() and len(born) < 200:
            one.tell("threads", 1)
            born.append(1)

    with_threads = threading.Thread(target=bear)
    with_threads.start()
    outcomes = [machine.move(one, 0), machine.move(one, 1), machine.move(one, 0)]
    stop.set()
    with_threads.join()
    last = machine.move(one, 0)

    assert [outcome.ending for outcome in outcomes] == [Ending.DONE] * 3
    assert last.moved_threads == 0
    assert machine.job.masks() == [FIRST] * (1 + len(born))


def test_those_in_cgroups_of_the_job_are_restored_too(machine):
    one = machine.job.start(inside="workers")
    machine.move(one, 0)

    assert machine.journal.restore() == Restored(1)
    assert machine.job.masks() == [CPUS]


def test_a_process_that_was_put_out_of_its_job_is_restored(machine, new_job):  # noqa: F811
    one, elsewhere = machine.job.start(), new_job()
    machine.move(one, 0)
    elsewhere.adopt(one.pid)

    assert machine.journal.restore() == Restored(1)
    assert elsewhere.masks() == [CPUS]


def test_a_stranger_with_the_same_cpus_in_another_job_is_left(machine, new_job):  # noqa: F811
    one, other = machine.job.start(), new_job()
    other.start().tell("bind", *FIRST)
    machine.move(one, 0)

    machine.journal.restore()

    assert other.masks() == [FIRST]


def test_a_job_that_ended_is_forgotten(machine):
    machine.move(machine.job.start(), 0)
    machine.job.remove()

    machine.journal.tidy()

    assert machine.disk.load() == Affinities(BOOT)


def test_what_a_change_of_the_cpuset_reset_is_forgotten(machine):
    """As kernels before 6.2 do; here we give back the mask in its place."""
    one = machine.job.start()
    machine.move(one, 0)
    os.sched_setaffinity(one.pid, CPUS)

    machine.journal.tidy()
    one.tell("bind", *FIRST)
    restored = machine.journal.restore()

    assert restored == Restored()
    assert machine.job.masks() == [FIRST]


def test_what_some_still_bear_is_not_forgotten(machine):
    one = machine.job.start()
    machine.move(one, 0)
    one.tell("fork", 1)
    os.sched_setaffinity(one.pid, CPUS)

    machine.journal.tidy()

    assert machine.journal.restore() == Restored(1)
    assert machine.job.masks() == [CPUS] * 2


def test_after_another_boot_nothing_is_restored(machine):
    one = machine.job.start()
    machine.move(one, 0)

    machine.start(boot="another")

    assert machine.journal.restore() == Restored()
    assert machine.job.masks() == [FIRST]
    os.sched_setaffinity(one.pid, CPUS)


def test_jobs_that_are_to_keep_theirs_keep_them(machine):
    machine.move(machine.job.start(), 0)

    kept = machine.journal.restore(but={machine.job.cgroup_id})

    assert kept == Restored()
    assert machine.job.masks() == [FIRST]
    assert machine.journal.restore(but={1}) == Restored(1)


def test_nothing_is_changed_while_the_gate_is_closed(machine):
    one = machine.job.start()
    machine.gate.close("operator", "paused")

    assert machine.move(one, 0).ending is Ending.DRY_RUN
    assert machine.job.masks() == [CPUS]


def test_without_time_the_rest_is_left_for_the_next_turn(machine):
    assert machine.move(machine.job.start(), 0, seconds=-1.0).ending is Ending.DEADLINE
    assert machine.job.masks() == [CPUS]


def test_where_a_sched_ext_scheduler_is_loaded_nothing_is_changed(machine):
    write(machine.root / "sys/kernel/sched_ext/state", "enabled")

    outcome = machine.move(machine.job.start(), 0)

    assert (outcome.ending, outcome.detail[:11]) == (Ending.REFUSED, "a sched_ext")
    assert machine.job.masks() == [CPUS]


def test_threads_are_not_crowded_onto_the_few_cpus_of_a_node_that_their_cpuset_allows(machine):
    write(machine.root / "sys/devices/system/node/node0/cpulist", f"{FIRST[0]},100-101")
    one, alone = machine.job.start(), machine.job.start()
    one.tell("threads", 1)

    refused, done = machine.move(one, 0), machine.move(alone, 0)

    few = "its cpuset allows fewer of the CPUs of these nodes than it has threads"
    assert (refused.ending, refused.detail) == (Ending.REFUSED, few)
    assert (done.ending, done.moved_threads) == (Ending.DONE, 1)


def test_isolated_cpus_are_given_to_nobody(machine):
    write(machine.root / "sys/devices/system/cpu/isolated", CPUS[0])

    outcome = machine.move(machine.job.start(), 0)

    assert outcome.ending is Ending.REFUSED
    assert "none of the CPUs" in outcome.detail


def test_a_process_that_ended_or_is_another_now_is_gone(machine):
    one = machine.job.start()
    one.key = ProcessKey(one.pid, one.key.start_ticks + 1)

    assert machine.move(one, 0).ending is Ending.GONE
    assert machine.job.masks() == [CPUS]


def test_what_cannot_be_given_back_stays_noted_and_is_told(machine, monkeypatch):
    one = machine.job.start()
    machine.move(one, 0)

    def no(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", no)
    refused = machine.journal.restore()
    monkeypatch.undo()

    assert refused == Restored()
    assert machine.journal.restore() == Restored(1)
    assert machine.job.masks() == [CPUS]


def test_a_journal_that_cannot_be_shortened_is_only_restored_once_more(machine):
    one = machine.job.start()
    machine.move(one, 0)
    machine.disk.fails = OSError(28, "No space left on device")

    restored = machine.journal.restore()
    machine.disk.fails = None

    assert restored == Restored(1)
    assert machine.journal.restore() == Restored()
    assert machine.disk.load() == Affinities(BOOT)


def test_a_job_that_cannot_be_read_for_a_while_is_not_forgotten(machine, monkeypatch):
    machine.move(machine.job.start(), 0)

    def no_descriptor_left(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Masks, "of_job", no_descriptor_left)
    machine.journal.tidy()
    unread = machine.journal.restore()
    monkeypatch.undo()

    assert unread == Restored()
    assert machine.journal.restore() == Restored(1)
    assert machine.job.masks() == [CPUS]


def test_a_storm_of_forks_is_restored_to_the_last_child(machine):
    one = machine.job.start()
    machine.move(one, 0)
    one.tell("storm", 500)

    machine.journal.restore()

    until_s = time.monotonic() + 30
    while len(machine.job.masks()) < 502 and time.monotonic() < until_s:
        time.sleep(0.05)
    assert machine.job.masks() == [CPUS] * 502


@pytest.mark.parametrize(
    ("error", "ending", "failed"),
    [
        (PermissionError(1, "Operation not permitted"), Ending.REFUSED, {"EPERM": 1}),
        (OSError(22, "Invalid argument"), Ending.REFUSED, {"EINVAL": 1}),
        (ProcessLookupError(3, "No such process"), Ending.REFUSED, {}),
    ],
)
def test_what_the_kernel_refuses_is_counted_by_its_name(machine, monkeypatch, error, ending, failed):
    def no(*_):
        raise error

    monkeypatch.setattr(os, "sched_setaffinity", no)

    outcome = machine.move(machine.job.start(), 0)

    assert (outcome.ending, outcome.failed, outcome.moved_threads) == (ending, failed, 0)


def test_a_process_that_has_left_its_job_is_left(machine):
    machine.job_of = lambda _: None
    machine.start()

    assert machine.move(machine.job.start(), 0).ending is Ending.GONE
    assert machine.job.masks() == [CPUS]


def test_the_masks_are_read_again_every_half_minute(machine, monkeypatch):
    one = machine.job.start()
    machine.move(one, 0)
    os.sched_setaffinity(one.pid, CPUS)
    monkeypatch.setattr(tasks, "TIDY_S", 0.0)

    machine.mover.move([], time.monotonic() + 5)

    assert machine.disk.load() == Affinities(BOOT)
