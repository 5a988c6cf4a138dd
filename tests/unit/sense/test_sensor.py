# SPDX-License-Identifier: Apache-2.0

"""One look sees the labelled jobs, reads page tables as seldom as it can, and survives what vanishes."""

import itertools
import os
import shutil
import time

import numpy as np
import pytest

from numad_py.kernel import cgroup, hotplug, node_sysfs, numa_maps, placement, proc_stat
from numad_py.model import Mempolicy, PlacementSource, ProcessKey
from numad_py.sense import opt_in, sensor
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Rules
from numad_py.sense.sensor import Costs, LiveSensor
from numad_py.workers import Unfinished, Workers
from tests.fake_root import FORBIDDEN, FakeRoot, stat


@pytest.fixture
def fake(tmp_path):
    return FakeRoot(tmp_path)


def sensor_of(fake, workers=None, *, rules=None, every_s=10, **costs):
    """Give a sensor for which that much time passes from one look to the next."""
    topology = node_sysfs.read_topology(fake.root, page_bytes=4096)
    clock = (number * every_s / 2 for number in itertools.count())  # asked twice a look
    return LiveSensor(
        topology,
        workers or Workers(),
        Jobs(fake.mount, rules or Rules()),
        root=fake.root,
        costs=Costs(**costs),
        now=lambda: next(clock),
    )


def only_job(snapshot):
    (job,) = snapshot.jobs
    return job


@pytest.fixture
def readings(monkeypatch):
    """Give the PIDs whose page tables were read, in order; clear it between looks."""
    pids = []
    read = numa_maps.read

    def noted(pid, root):
        pids.append(pid)
        return read(pid, root)

    monkeypatch.setattr(numa_maps, "read", noted)
    return pids


def seen(snapshot):
    """Give the PIDs of the only job that are told of."""
    return [process.key.pid for process in only_job(snapshot).processes]


def test_a_labelled_job_is_seen_with_its_processes_pages_and_threads(fake):
    fake.process(100, pages={0: 30, 1: 70}, ticks={100: (2, 5)}, comm="a) b")
    fake.job(pids=[100], charged={0: 120, 1: 280})
    eyes = sensor_of(fake)
    eyes.look()
    fake.process(100, pages={0: 30, 1: 70}, ticks={100: (2, 5 + os.sysconf("SC_CLK_TCK"))}, comm="a) b")

    snapshot = eyes.look()

    job = only_job(snapshot)
    (process,) = job.processes
    assert (job.path, job.profile, job.memory.anon_bytes.tolist()) == (
        "/job",
        "default",
        [120 << 10, 280 << 10],
    )
    assert (process.key, process.comm, process.nodes_allowed) == (ProcessKey(100, 7), "a) b", (0, 1))
    assert process.regions.pages.tolist() == [[30, 70]]
    assert (process.threads.cpu.tolist(), process.threads.cpu_s.tolist()) == ([2], [1.0])
    assert snapshot.memory.free_bytes.tolist() == [1 << 29, 1 << 29]
    assert snapshot.skipped == ()
    assert eyes.took_s > 0


def test_what_the_processes_of_a_job_share_among_themselves_is_told(fake):
    for pid in (100, 101):
        folder = fake.process(pid, pages={0: 1000})
        (folder / "stat").write_text(stat(pid, rss_pages=1000, start_stack=0x7FFE00000000))
        numa_maps_of = folder / "numa_maps"
        numa_maps_of.write_text(numa_maps_of.read_text().replace(" N0", " mapmax=2 N0"))
    fake.job(pids=[100, 101])

    one, other = only_job(sensor_of(fake).look()).processes

    assert one.regions.shared.tolist() == other.regions.shared.tolist() == [True]
    assert one.regions.backing.tolist() == other.regions.backing.tolist()


def test_a_process_of_no_labelled_job_is_not_looked_at(fake):
    fake.process(100)
    fake.job(pids=[100], label="off")

    assert sensor_of(fake).look().jobs == ()


def test_a_label_that_does_not_count_is_told(fake):
    fake.job(label="no profile's name")
    eyes = sensor_of(fake)

    eyes.look()

    assert eyes.jobs.ignored == {"/job": "not the name of a profile, nor off"}


LABELLED_BY_1000 = Rules(user_profiles=frozenset({"default"}))


@pytest.fixture
def users_job(fake):
    """Give a function that makes processes with these uids, and the owners of their files, in a job that uid 1000 labelled."""

    def make(**uids_and_owners):
        for pid, (uids, owner) in enumerate(uids_and_owners.values(), 100):
            fake.process(pid, comm=list(uids_and_owners)[pid - 100])
            status = fake.root / f"proc/{pid}/status"
            status.write_text(status.read_text().replace("0\t0\t0\t0", "\t".join(map(str, uids))))
            os.chown(status, owner, owner)
        job = fake.job(pids=range(100, 100 + len(uids_and_owners)))
        os.chown(job, 1000, 1000)

    return make


def test_a_users_label_covers_processes_that_are_wholly_theirs_and_the_others_are_named(fake, users_job):
    users_job(
        own=([1000] * 4, 1000),
        other=([1001] * 4, 1001),
        setuid=([1000, 0, 0, 0], 0),
        dropped=([1000, 1000, 0, 1000], 1000),
        capable=([1000] * 4, 0),
    )

    snapshot = sensor_of(fake, rules=LABELLED_BY_1000).look()

    assert [process.comm for process in only_job(snapshot).processes] == ["own"]
    assert {skipped.comm: skipped.why for skipped in snapshot.skipped} == {
        "other": "it belongs to uid 1001, and uid 1000 labelled the job",
        **dict.fromkeys(
            ("setuid", "dropped", "capable"), "it belongs to uid 0, and uid 1000 labelled the job"
        ),
    }


def test_a_process_that_becomes_another_users_is_left_alone_from_the_next_look_on(fake, users_job):
    users_job(su=([1000] * 4, 1000))
    eyes = sensor_of(fake, rules=LABELLED_BY_1000)
    before = seen(eyes.look())
    users_job(su=([1000, 0, 0, 0], 0))
    after = eyes.look()
    users_job(su=([1000] * 4, 1000))

    assert (before, seen(after), [each.comm for each in after.skipped]) == ([100], [], ["su"])
    assert seen(eyes.look()) == [100]


def test_what_a_process_used_while_it_was_another_users_is_never_told(fake, users_job):
    users_job(su=([1000] * 4, 1000))
    status = fake.root / "proc/100/status"
    covered, eyes = status.read_text(), sensor_of(fake, rules=LABELLED_BY_1000)
    assert seen(eyes.look()) == [100]

    used_s = []
    for ticks, text in ((90_000, None), (90_000, covered), (90_100, covered)):
        fake.process(100, ticks={100: (0, ticks)}, comm="su")
        status.write_text(text or status.read_text())
        used_s += [each.threads.cpu_s.sum() for each in only_job(eyes.look()).processes]

    assert used_s == [0.0, 100 / os.sysconf("SC_CLK_TCK")]


def test_roots_label_covers_every_process(fake):
    fake.process(100)
    status = fake.root / "proc/100/status"
    status.write_text(status.read_text().replace("0\t0\t0\t0", "1000\t0\t0\t0"))
    fake.job(pids=[100])

    assert seen(sensor_of(fake).look()) == [100]


def test_rules_that_change_hold_from_the_next_look_on(fake):
    fake.process(100)
    fake.job(pids=[100])
    eyes = sensor_of(fake)
    before = eyes.look().jobs
    eyes.jobs.rules = opt_in.rules(deny=["/j*"], labels={}, profiles=["default"], user_profiles=[])

    assert (len(before), eyes.look().jobs) == (1, ())


@pytest.mark.parametrize("vanished", ["", "stat", "status", "task", "maps", "numa_maps"])
def test_a_process_that_ends_during_the_look_is_left_out_without_a_word(fake, vanished):
    fake.process(100)
    ending = fake.process(101) / vanished
    fake.job(pids=[100, 101])
    shutil.rmtree(ending) if ending.is_dir() else ending.unlink()

    snapshot = sensor_of(fake).look()

    assert seen(snapshot) == [100]
    assert snapshot.skipped == ()


@pytest.mark.parametrize("malformed", ["stat", "status", "task/101/stat", "maps", "numa_maps"])
def test_a_process_that_cannot_be_understood_is_named_and_left_out(fake, malformed):
    fake.process(100)
    (fake.process(101) / malformed).write_text("nonsense\n")
    fake.job(pids=[100, 101])

    snapshot = sensor_of(fake).look()

    (skipped,) = snapshot.skipped
    assert seen(snapshot) == [100]
    assert skipped.process.pid == 101
    assert "nonsense" in skipped.why or "no line such as" in skipped.why or "no CPU time" in skipped.why


@pytest.mark.parametrize("refused", ["stat", "status", "maps", "numa_maps"])
def test_a_process_that_may_not_be_read_is_named_and_left_out(fake, refused):
    fake.process(100)
    path = fake.process(101) / refused
    path.unlink()
    path.symlink_to(FORBIDDEN)
    fake.job(pids=[100, 101])

    snapshot = sensor_of(fake).look()

    (skipped,) = snapshot.skipped
    assert seen(snapshot) == [100]
    assert skipped.process.pid == 101
    assert "Permission denied" in skipped.why


def test_a_reader_that_gets_stuck_is_named_and_the_others_are_read(fake):
    path = fake.process(100) / "numa_maps"
    path.unlink()
    os.mkfifo(path)  # opening it waits until somebody writes
    fake.process(101)
    fake.job(pids=[100, 101])
    workers = Workers(patience_s=0.05)

    snapshot = sensor_of(fake, workers).look()

    assert seen(snapshot) == [101]
    assert [(each.process.pid, each.why) for each in snapshot.skipped] == [(100, Unfinished.STUCK.value)]
    assert [key.pid for key in workers.stuck] == [100]
    os.close(os.open(path, os.O_WRONLY))  # let the reader go


def again(eyes, readings):
    """Look again, and give whose page tables were read."""
    readings.clear()
    eyes.look()
    return readings


def test_page_tables_are_not_read_again_while_the_job_is_charged_the_same(fake, readings):
    fake.process(100, pages={0: 100})
    fake.job(pids=[100], charged={0: 400})
    eyes = sensor_of(fake)

    assert again(eyes, readings) == [100]
    fake.process(100, pages={0: 100}, faults=5)
    assert again(eyes, readings) == []


def test_a_hundredth_of_the_job_that_moved_is_not_worth_another_read(fake, readings):
    fake.process(100, pages={0: 1000})
    fake.job(pids=[100], charged={0: 4000})
    eyes = sensor_of(fake)
    again(eyes, readings)

    fake.process(100, pages={0: 1000}, faults=1)
    fake.job(pids=[100], charged={0: 3960, 1: 40})
    assert again(eyes, readings) == []
    fake.job(pids=[100], charged={0: 3956, 1: 44})
    assert again(eyes, readings) == [100]


def test_a_new_process_of_a_known_job_is_read_alone(fake, readings):
    fake.process(100, pages={0: 1000})
    fake.job(pids=[100], charged={0: 4000})
    eyes = sensor_of(fake)
    eyes.look()
    fake.process(101, pages={0: 1})
    fake.job(pids=[100, 101], charged={0: 4004})

    assert again(eyes, readings) == [101]


def test_another_process_with_the_same_pid_is_read(fake, readings):
    fake.process(100)
    fake.job(pids=[100], charged={0: 400})
    eyes = sensor_of(fake)
    eyes.look()
    fake.process(100, start_ticks=8)

    assert again(eyes, readings) == [100]


def test_where_the_charges_disagree_with_the_processes_those_that_faulted_are_read(fake, readings):
    fake.process(100, pages={0: 100})
    fake.process(101, pages={0: 100})
    fake.job(pids=[100, 101], charged={0: 639})  # under 80 % of the 800 KiB resident
    eyes = sensor_of(fake)
    eyes.look()
    fake.process(100, pages={0: 100}, faults=1)

    assert again(eyes, readings) == [100]


def test_where_nothing_is_charged_by_node_those_that_grew_are_read(fake, readings):
    fake.process(100, pages={0: 100})
    fake.job(pids=[100])
    eyes = sensor_of(fake)

    assert again(eyes, readings) == [100]
    assert again(eyes, readings) == []
    fake.process(100, pages={0: 101})
    assert again(eyes, readings) == [100]


def test_where_pages_were_migrated_those_that_ran_are_read(fake, readings):
    fake.process(100)
    fake.process(101)
    fake.job(pids=[100, 101])
    eyes = sensor_of(fake)
    eyes.look()

    fake.process(100, ticks={100: (0, 1)})
    assert again(eyes, readings) == []
    fake.vmstat(pgmigrate_success=1)
    assert again(eyes, readings) == [100]


def test_what_was_just_moved_is_read_at_the_next_look(fake, readings):
    fake.process(100)
    fake.job(pids=[100], charged={0: 400})
    eyes = sensor_of(fake, every_s=0.2, budget_core_share=1)
    (process,) = only_job(eyes.look()).processes

    eyes.moved([process.key, ProcessKey(99, 1)])

    assert again(eyes, readings) == [100]
    assert again(eyes, readings) == []


def test_what_nothing_speaks_against_is_known_as_of_now(fake):
    fake.process(100)
    fake.job(pids=[100])
    eyes = sensor_of(fake)
    eyes.look()

    (process,) = only_job(eyes.look()).processes

    assert (process.placement_age_s, process.cpu_age_s) == (0, 0)


def test_what_could_have_changed_unnoticed_is_read_again_within_a_minute(fake, readings):
    fake.process(100)
    fake.job(pids=[100], charged={0: 400})
    eyes = sensor_of(fake)
    eyes.look()
    fake.vmstat(pgmigrate_success=1)

    ages_s = []
    while not again(eyes, readings):
        ages_s.append(only_job(eyes.look()).processes[0].placement_age_s)

    assert ages_s
    assert max(ages_s) <= 60


def test_what_the_last_glance_found_unchanged_is_not_read_again_until_the_next_glance(fake, readings):
    fake.process(100)
    fake.job(pids=[100])
    eyes = sensor_of(fake, every_s=1, budget_core_share=1e-5)  # too little to glance at every look

    for _ in range(120):
        eyes.look()

    assert readings == [100]


def test_what_the_budget_does_not_reach_is_named_and_comes_later(fake, readings):
    pids = range(100, 140)
    for pid in pids:
        fake.process(pid)
    fake.job(pids=pids)
    eyes = sensor_of(fake, every_s=1, budget_core_share=0.0001)  # 30 ms to begin with, 3 ms of it a process

    first = eyes.look()
    looks = 1
    while len(seen(eyes.look())) < len(pids):
        looks += 1

    assert 0 < len(seen(first)) < len(pids)
    assert {key.pid for key in first.cost.postponed} == set(pids) - set(seen(first))
    assert looks > 2
    assert sorted(readings) == list(pids)


def test_what_a_first_reading_is_likely_to_take_is_what_the_last_ones_took(fake, monkeypatch):
    read, pids = numa_maps.read, range(100, 180)
    for pid in pids:
        fake.process(pid)
    fake.job(pids=pids)

    def slow(pid, root):
        until_s = time.thread_time() + 0.01
        while time.thread_time() < until_s:
            pass
        return read(pid, root)

    monkeypatch.setattr(numa_maps, "read", slow)
    eyes = sensor_of(fake, every_s=1, budget_core_share=1.0)

    told = [len(seen(eyes.look())) for _ in range(3)]

    assert told[0] > 2 * (told[1] - told[0]) > 0


def test_a_label_is_noticed_without_a_glance(fake, monkeypatch):
    monkeypatch.setattr(sensor, "FINDING_PART", 1e6)
    fake.process(100)
    fake.job(pids=[100])
    eyes = sensor_of(fake, every_s=1, budget_core_share=1e-5)  # too little to glance again soon
    eyes.look()

    fake.process(101)
    fake.job("other", pids=[101])
    snapshot = eyes.look()

    assert [(job.path, len(job.processes)) for job in snapshot.jobs] == [("/job", 1), ("/other", 0)]
    assert [pids for pids in eyes.jobs.pids.values() if 101 in pids]


def test_a_job_whose_label_went_is_gone_without_a_glance(fake, monkeypatch):
    monkeypatch.setattr(sensor, "FINDING_PART", 1e6)
    for pid in range(100, 140):
        fake.process(pid)
    group = fake.job(pids=range(100, 140))
    eyes = sensor_of(fake, every_s=1, budget_core_share=1e-5)
    assert eyes.look().cost.postponed

    os.removexattr(group, cgroup.LABEL)
    snapshot = eyes.look()

    assert (snapshot.jobs, snapshot.cost.postponed) == ((), ())


def test_who_left_a_job_is_forgotten_at_the_next_glance(fake):
    for pid in (100, 101):
        fake.process(pid)
    group = fake.job(pids=[100, 101])
    eyes = sensor_of(fake)
    eyes.look()

    (group / "cgroup.procs").write_text("101\n")

    assert seen(eyes.look()) == [101]


def test_a_process_that_goes_to_another_job_in_its_sleep_is_read_as_if_it_were_new(fake):
    fake.process(100)
    groups = fake.job("one", pids=[100]), fake.job("two")
    eyes = sensor_of(fake)
    eyes.look()

    for group, pids in zip(groups, ("", "100\n"), strict=True):
        (group / "cgroup.procs").write_text(pids)
    told = {job.path: [each.cpu_age_s for each in job.processes] for job in eyes.look().jobs}

    assert told == {"/one": [], "/two": [0.0]}


def test_a_line_that_is_as_before_is_not_parsed_again(fake, monkeypatch):
    parse, parsed = proc_stat.parse, []
    monkeypatch.setattr(proc_stat, "parse", lambda line: parsed.append(line) or parse(line))
    fake.process(100)
    fake.job(pids=[100])
    eyes = sensor_of(fake)

    ages_s = [only_job(eyes.look()).processes[0].placement_age_s for _ in range(3)]

    assert (len(parsed), ages_s) == (1, [0.0] * 3)


def test_watermarks_are_read_with_each_glance(fake, monkeypatch):
    read, asked = node_sysfs.read_watermarks, []
    monkeypatch.setattr(node_sysfs, "read_watermarks", lambda root: asked.append(root) or read(root))
    fake.process(100)
    fake.job(pids=[100])
    often, seldom = sensor_of(fake), sensor_of(fake, every_s=1, budget_core_share=1e-5)

    for eyes in (often, seldom):
        high = {tuple(eyes.look().memory.high_watermark_bytes.tolist()) for _ in range(3)}

    assert (len(asked), len(high)) == (3 + 1, 1)


def test_many_new_processes_do_not_hide_who_runs(fake, monkeypatch):
    monkeypatch.setattr(sensor, "GLANCING_PART", 1e6)  # a glance at every look, whatever it takes
    pids = range(100, 200)
    for pid in pids:
        fake.process(pid)
    fake.job(pids=pids)
    eyes = sensor_of(fake, every_s=1, budget_core_share=0.0001)  # which is soon used up: one thing a look
    ages_s, looks = [], 0

    while len(seen(snapshot := eyes.look())) < len(pids):
        looks += 1
        fake.process(100, ticks={100: (0, looks)})
        ages_s += [process.cpu_age_s for process in only_job(snapshot).processes[:1]]  # none on a slow host

    assert looks > 20
    # A placement that was awaited from the first look is no more urgent than threads of a tenth of that age.
    assert max(ages_s) <= looks * sensor.CPU_S / sensor.FIRST_PLACEMENT_S + 1


def test_what_a_look_costs_is_told(fake):
    fake.process(100)
    fake.job(pids=[100])
    eyes = sensor_of(fake)

    cost = eyes.look().cost

    assert 0 < cost.cpu_s < 1
    assert cost.core_share == pytest.approx(cost.cpu_s)  # within its first second
    assert cost.postponed == ()


def turn(cpu_s):
    """Take that much CPU time, as policies, log and trace do."""
    until_s = time.thread_time() + cpu_s
    while time.thread_time() < until_s:
        pass


def test_what_the_turn_took_besides_the_look_is_paid_from_the_same_account(fake):
    eyes = sensor_of(fake, every_s=1)
    first_s = eyes.look().cost.cpu_s
    turn(0.02)

    cost = eyes.look().cost

    assert cost.core_share >= first_s + 0.02 + cost.cpu_s  # within one second


def test_what_may_not_be_read_is_tried_again_after_a_minute(fake, readings):
    path = fake.process(100) / "numa_maps"
    text = path.read_text()
    path.unlink()
    path.symlink_to(FORBIDDEN)
    fake.job(pids=[100])
    eyes = sensor_of(fake)
    assert [len(eyes.look().skipped) for _ in range(3)] == [1, 1, 1]
    path.unlink()
    path.write_text(text)

    looks = [eyes.look() for _ in range(5)]

    assert readings == [100, 100]
    assert (seen(looks[-1]), looks[-1].skipped) == ([100], ())


LARGE = 100_000  # pages, which take 5.5 ms to walk
SAMPLED, WALKED = PlacementSource.PAGE_SAMPLE, PlacementSource.NUMA_MAPS


@pytest.fixture
def large(fake, monkeypatch):
    """Give a job of one process that is too large to be walked at every reading."""
    monkeypatch.setattr(placement, "nodes_of", lambda _pid, addresses: np.zeros(len(addresses), np.int32))
    fake.process(100, pages={0: LARGE})
    fake.job(pids=[100])
    return fake


def sights(eyes, looks):
    """Look as often, with pages moved in between; give source and mempolicies of what was seen."""
    seen = []
    for _ in range(looks):
        (process,) = only_job(eyes.look()).processes
        seen.append((process.placement_source, process.regions.mempolicy.tolist()))
        eyes.moved([process.key])
    return seen


@pytest.mark.parametrize("mempolicy", ["default", "bind:0"])
def test_a_large_process_is_walked_once_and_then_sampled_with_the_mempolicies_that_it_had(large, mempolicy):
    numa_maps_file = large.root / "proc/100/numa_maps"
    numa_maps_file.write_text(numa_maps_file.read_text().replace("default", mempolicy))
    learnt = [Mempolicy.DEFAULT if mempolicy == "default" else Mempolicy.BIND]

    seen = sights(sensor_of(large), 5)

    assert seen == [(SAMPLED, [Mempolicy.UNKNOWN]), (WALKED, learnt), *[(SAMPLED, learnt)] * 3]


def test_a_large_process_that_stands_still_is_walked_too(large):
    eyes = sensor_of(large)
    eyes.look()

    (process,) = only_job(eyes.look()).processes

    assert process.placement_source is WALKED


def test_where_most_of_a_large_process_is_new_it_is_walked_again(large):
    eyes = sensor_of(large)
    sights(eyes, 3)
    large.process(100, pages={0: 2 * LARGE})  # of another size: so its VMAs are read again
    for name in ("maps", "numa_maps"):
        path = large.root / "proc/100" / name
        path.write_text(path.read_text().replace("5555", "5666"))

    seen = sights(eyes, 3)

    assert seen == [
        (SAMPLED, [Mempolicy.UNKNOWN]),
        (WALKED, [Mempolicy.DEFAULT]),
        (SAMPLED, [Mempolicy.DEFAULT]),
    ]


def test_what_a_walk_said_counts_more_than_what_the_operator_takes_for_granted(large):
    numa_maps_file = large.root / "proc/100/numa_maps"
    numa_maps_file.write_text(numa_maps_file.read_text().replace("default", "bind:0"))

    seen = sights(sensor_of(large, assume_default_mempolicy=True), 3)

    assert seen[1:] == [(WALKED, [Mempolicy.BIND]), (SAMPLED, [Mempolicy.BIND])]


@pytest.mark.parametrize("costs", [{"first_walk_ms": 0}, {"first_walk_ms": 5}])
def test_an_operator_may_forbid_the_walk(large, costs):
    seen = sights(sensor_of(large, **costs), 5)

    assert seen == [(SAMPLED, [Mempolicy.UNKNOWN])] * 5


def test_a_walk_that_is_stuck_is_not_begun_again_at_the_next_look(large):
    path = large.root / "proc/100/numa_maps"
    path.unlink()
    os.mkfifo(path)  # opening it waits until somebody writes
    workers = Workers(patience_s=0.5)
    eyes = sensor_of(large, workers)
    eyes.look()
    stuck = eyes.look()
    os.close(os.open(path, os.O_WRONLY))
    while workers.stuck:
        time.sleep(0.01)

    seen = sights(eyes, 1)

    assert [each.why for each in stuck.skipped] == [Unfinished.STUCK.value]
    assert seen == [(SAMPLED, [Mempolicy.UNKNOWN])]


def test_malformed_charges_are_as_good_as_none(fake):
    fake.process(100)
    (fake.job(pids=[100]) / "memory.numa_stat").write_text("anon N0=a lot\n")

    assert only_job(sensor_of(fake).look()).memory is None


def test_what_is_known_of_a_process_that_ended_is_forgotten(fake, readings):
    fake.process(100)
    fake.job(pids=[100], charged={0: 400})
    eyes = sensor_of(fake)
    eyes.look()
    fake.job(pids=[], charged={0: 400})
    assert seen(eyes.look()) == []
    fake.job(pids=[100], charged={0: 400})

    assert again(eyes, readings) == [100]


def test_a_node_that_comes_on_line_is_seen_at_the_next_look(fake):
    fake.process(100, pages={0: 30})
    fake.job(pids=[100])
    eyes = sensor_of(fake)
    assert eyes.look().topology.node_ids == (0, 1)
    fake.node(2, nodes=3)
    fake.process(100, pages={0: 30, 2: 20})

    seen = eyes.look()

    assert seen.topology.node_ids == (0, 1, 2)
    assert only_job(seen).processes[0].regions.pages.tolist() == [[30, 0, 20]]
    assert len(seen.memory.free_bytes) == 3


@pytest.mark.parametrize("when", ["before the look", "during the look"])
def test_a_node_that_goes_off_line_is_gone_at_the_next_look_that_begins_after_it(fake, monkeypatch, when):
    fake.process(100, pages={0: 30, 1: 70})
    fake.job(pids=[100])
    eyes = sensor_of(fake)
    eyes.look()
    take_off_line(fake, monkeypatch, when)
    if when == "during the look":
        assert eyes.look().memory.free_bytes.tolist() == [0, 0]

    seen = eyes.look()

    assert seen.topology.node_ids == (0,)
    assert only_job(seen).processes[0].regions.pages.tolist() == [[30]]


def take_off_line(fake, monkeypatch, when):
    """Take node 1 away, at the latest when the next look has read which nodes there are."""
    before = hotplug.present(fake.root)
    fake.node(0, nodes=1)
    shutil.rmtree(fake.root / "sys/devices/system/node/node1")
    if when == "during the look":
        answers = itertools.chain([before], itertools.repeat(hotplug.present(fake.root)))
        monkeypatch.setattr(hotplug, "present", lambda _root: next(answers))


def test_a_cpu_that_goes_off_line_makes_a_new_topology(fake):
    eyes = sensor_of(fake)
    fake.write("sys/devices/system/cpu/online", "0-2\n")
    fake.write("sys/devices/system/node/node1/cpulist", "2\n")

    assert eyes.look().topology.nodes[1].cpus == (2,)


def test_the_topology_is_read_once_while_nothing_comes_or_goes(fake):
    eyes = sensor_of(fake)

    assert eyes.look().topology is eyes.look().topology


def test_a_node_whose_files_are_gone_though_it_is_on_line_leaves_no_room_and_is_told(fake):
    eyes = sensor_of(fake)
    shutil.rmtree(fake.root / "sys/devices/system/node/node1")

    seen = eyes.look()

    assert seen.memory.free_bytes.tolist() == [0, 0]
    assert "nothing has room" in eyes.problems[0]


def test_a_topology_that_makes_no_sense_yet_is_read_again_at_the_next_look(fake):
    eyes = sensor_of(fake)
    fake.node(2, nodes=3)
    fake.write("sys/devices/system/node/node0/distance", "10 21\n")
    assert eyes.look().topology.node_ids == (0, 1)
    assert "the topology cannot be read anew" in eyes.problems[0]
    fake.node(2, nodes=3)

    assert eyes.look().topology.node_ids == (0, 1, 2)
    assert eyes.problems == ()


def test_a_cgroup_whose_processes_cannot_be_listed_is_told_and_others_are_seen(fake):
    fake.process(100)
    fake.job(pids=[100])
    (fake.job("other") / "cgroup.procs").write_text("none\n")
    eyes = sensor_of(fake)

    found = {job.path: len(job.processes) for job in eyes.look().jobs}

    assert found == {"/job": 1, "/other": 0}
    assert "other cannot be listed: cgroup.procs: b'none" in eyes.problems[0]


def test_no_more_regions_are_remembered_than_there_is_memory_for_and_who_is_left_out_is_named(
    fake, monkeypatch
):
    monkeypatch.setattr(sensor, "MOST_ROWS", 3)  # each process has one region, which is one VMA
    fake.process(100)
    fake.process(200)
    fake.job(pids=[100, 200])
    eyes = sensor_of(fake, every_s=2 * sensor.RETRY_S)

    first = eyes.look()
    fake.end(100)
    second = eyes.look()

    assert [process.key.pid for process in first.processes] == [100]
    assert [skipped.process.pid for skipped in first.skipped] == [200]
    assert "would be remembered" in first.skipped[0].why
    assert [process.key.pid for process in second.processes] == [200]
