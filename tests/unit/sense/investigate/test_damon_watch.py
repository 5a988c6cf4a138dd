# SPDX-License-Identifier: Apache-2.0

"""What DAMON found is given by process, with who ran where; what is not sure to be true is not given."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import damon
from numad_py.model import AccessSource, ProcessKey
from numad_py.sense.investigate import damon_watch
from numad_py.sense.investigate.damon_watch import CHECKS, Damon, cut, pace_of
from tests import builders
from tests.fake_damon import ADMIN, CONTEXT, FakeDamon
from tests.fake_root import FakeRoot, stat

ONE, OTHER = ProcessKey(100, 7), ProcessKey(200, 7)
KDAMOND = 77
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RECLAIM = "reclaim ran while DAMON watched: what it saw is not valid"


@pytest.fixture
def machine(tmp_path):
    """Two processes that run, each with memory, and a kernel thread of DAMON."""
    fake = FakeRoot(tmp_path)
    fake.vmstat(pgscan_kswapd=5, pgscan_direct=3)
    for key in (ONE, OTHER):
        fake.process(key.pid, ticks={key.pid: (0, 50)})
    fake.process(KDAMOND)
    return fake


@pytest.fixture
def kernel(machine):
    return FakeDamon(machine.root, ranges=128)


PROCESSES = [builders.process(key.pid, pages={0: 64, 1: 64}) for key in (ONE, OTHER)]


@pytest.fixture
def watching(machine, kernel):
    """Watch both processes."""
    kernel.regions(0, (0x1000, 0x3000, 10), (0x5000, 0x6000, 2))
    kernel.regions(1, (0x3000, 0x5000, 7))
    watching = damon_of(machine)
    assert watching.start(PROCESSES)
    return watching


def damon_of(machine, **options):
    return Damon(builders.topology(), state=machine.root / "state", root=machine.root, **options)


def test_each_process_has_the_regions_that_damon_cut_with_its_own_counts(watching):
    seen = watching.collect()

    assert list(seen) == [ONE, OTHER]
    assert seen[ONE].start.tolist() == [0x1000, 0x5000]
    assert seen[ONE].end.tolist() == [0x3000, 0x6000]
    assert seen[ONE].counts.tolist() == [[10], [2]]
    assert seen[OTHER].counts.tolist() == [[7]]
    assert watching.problems == []


def test_it_is_told_what_saw_them_in_how_many_checks_and_how_many_seconds(watching):
    accesses = watching.collect()[ONE]

    assert (accesses.source, accesses.checks) == (AccessSource.DAMON, CHECKS)
    assert accesses.period_s == pytest.approx(watching.pace.aggr_us * 1e-6)


def test_the_process_is_one_group_with_its_cpu_time_by_node_since_the_last_look(watching, machine):
    tick_s = 1 / TICKS_PER_S
    machine.process(ONE.pid, ticks={100: (0, 60), 101: (3, 40), 102: (99, 40)})

    (group,) = watching.collect()[ONE].groups

    assert group.node is None
    assert sorted(group.tid.tolist()) == [100, 101, 102]
    assert group.cpu_s.tolist() == pytest.approx([10 * tick_s, 40 * tick_s])
    assert watching.collect()[ONE].groups[0].cpu_s.tolist() == [0, 0]


def test_damon_is_told_to_show_them_and_afterwards_to_end(watching, kernel):
    watching.collect()
    assert kernel.read("0/state") == "update_schemes_tried_regions"

    watching.stop()

    assert kernel.read("0/state") == "off"
    assert kernel.read("nr_kdamonds") == "0"
    assert watching.collect() == {}


def test_what_is_watched_is_where_the_memory_is(watching, kernel):
    (start, end) = (PROCESSES[0].regions.start[0], PROCESSES[0].regions.end[0])

    written = kernel.written("targets/1")

    pieces = int(written["regions/nr_regions"])
    edges = [
        [int(written[f"regions/{index}/{name}"]) for name in ("start", "end")] for index in range(pieces)
    ]
    assert written["pid_target"] == "200"
    assert (edges[0][0], edges[-1][1]) == (start, end)
    assert pieces > 100


def test_what_was_seen_while_reclaim_ran_is_not_given_but_what_comes_after_is(watching, machine):
    machine.vmstat(pgscan_kswapd=5, pgscan_direct=4)

    assert watching.collect() == {}
    assert watching.problems == [RECLAIM]
    assert list(watching.collect()) == [ONE, OTHER]


REGION = PROCESSES[0].regions
START, END = int(REGION.start[0]), int(REGION.end[0])
MIDDLE = (START + END) // 2


@pytest.fixture
def looking(monkeypatch, machine, kernel):
    """Watch both, each at its half, and look as often as asked."""
    monkeypatch.setattr(damon_watch, "LOOKS_S", [0.0] * 5)
    kernel.regions(0, (START, MIDDLE, 9))
    kernel.regions(1, (MIDDLE, END, 7))
    watching = damon_of(machine)
    assert watching.start(PROCESSES)
    return watching


def test_it_is_settled_once_two_looks_saw_much_the_same(looking, kernel):
    first = looking.is_settled()
    kernel.regions(0, (START, MIDDLE, 8))

    assert (first, looking.is_settled()) == (False, True)
    kernel.regions(0, (MIDDLE, END, 1))
    settled, then = looking.collect(), looking.collect()
    assert [each[ONE].counts.tolist() for each in (settled, then)] == [[[8]], [[1]]]


@pytest.mark.parametrize(
    "now",
    [[(MIDDLE, END, 9)], [], [(START, (3 * START + MIDDLE) // 4, 9)]],
    ids=["the other half", "nothing", "an eighth"],
)
def test_it_is_not_settled_while_a_process_is_seen_elsewhere(looking, kernel, now):
    looking.is_settled()
    kernel.regions(0, *now)

    assert not looking.is_settled()
    assert looking.is_settled()


def test_where_nothing_was_seen_yet_it_is_not_settled(looking, kernel):
    for index in (0, 1):
        kernel.regions(index)

    assert not any(looking.is_settled() for _ in range(3))


def test_it_looks_at_few_times_alone(watching, kernel):
    for _ in range(3):
        assert not watching.is_settled()

    assert kernel.read("0/state") == "on"


def test_what_is_cut_coarsely_is_left_to_damon_for_as_long_as_there_is(monkeypatch, machine, kernel):
    monkeypatch.setattr(damon_watch, "LOOKS_S", [0.0] * 5)
    watching = damon_of(machine, watch_s=0.2)
    assert watching.start(PROCESSES)
    assert watching.pace.most_regions // 2 // len(PROCESSES) < 128

    assert not any(watching.is_settled() for _ in range(3))


def test_what_was_ended_is_settled_and_what_does_not_answer_is_not(looking, kernel):
    kernel.refuse("0/state")
    refused = looking.is_settled()
    (kernel.root / ADMIN / "0/state").unlink()
    kernel.write(ADMIN / "0/state", "on")
    kernel.replaced()

    assert (refused, looking.is_settled()) == (False, True)


def test_before_it_began_and_after_it_was_stopped_there_is_nothing_to_wait_for(machine, looking):
    looking.stop()

    assert looking.is_settled()
    assert damon_of(machine).is_settled()


@pytest.mark.parametrize("end", ["gone", "zombie", "another"])
def test_a_process_that_ended_is_left_out(watching, machine, end):
    if end == "gone":
        machine.end(ONE.pid)
    if end == "zombie":
        path = machine.root / "proc/100/stat"
        path.write_text(path.read_text().replace(") S ", ") Z "))
    if end == "another":
        machine.process(ONE.pid, start_ticks=8)

    assert list(watching.collect()) == [OTHER]


def test_once_all_have_ended_nothing_is_left_of_it(watching, machine, kernel):
    machine.end(ONE.pid)
    machine.end(OTHER.pid)

    assert watching.collect() == {}
    assert "the processes are gone" in watching.problems[0]
    assert kernel.read("nr_kdamonds") == "0"


def test_a_kdamond_that_ended_by_itself_is_removed(watching, kernel):
    kernel.write(ADMIN / "0/pid", -1)

    assert watching.collect() == {}
    assert kernel.read("nr_kdamonds") == "0"


@pytest.mark.parametrize("how", ["anew", "other processes", "another thread"])
def test_one_who_takes_damon_meanwhile_is_given_way_to(watching, kernel, how):
    if how == "anew":
        kernel.replaced()
    if how == "other processes":
        kernel.write(CONTEXT / "targets/0/pid_target", 300)
    if how == "another thread":
        kernel.write(ADMIN / "0/pid", 78)

    assert watching.collect() == {}
    assert "another user" in watching.problems[0]
    assert kernel.read("0/state") in ("on", "off")


def test_regions_that_cannot_be_read_are_not_given(watching, kernel):
    kernel.regions(0, (0x3000, 0x1000, 10))

    assert watching.collect() == {}
    assert "did not answer: tried_regions" in watching.problems[0]


def test_a_kdamond_that_refuses_to_be_asked_is_asked_again_the_next_time(watching, kernel):
    kernel.refuse("0/state")
    assert watching.collect() == {}
    assert "did not answer: [Errno 22]" in watching.problems[0]

    (kernel.root / ADMIN / "0/state").unlink()
    kernel.write(ADMIN / "0/state", "on")

    assert list(watching.collect()) == [ONE, OTHER]


def test_where_damon_has_another_user_nothing_is_begun(machine, kernel):
    kernel.write(ADMIN / "nr_kdamonds", 1)
    watching = damon_of(machine)

    assert not watching.start(PROCESSES)

    assert watching.problems == ["DAMON has another user: kdamonds/nr_kdamonds is 1"]
    assert watching.collect() == {}
    watching.stop()
    assert kernel.read("nr_kdamonds") == "1"


def test_processes_without_memory_are_not_watched(machine, kernel):
    watching = damon_of(machine)

    assert not watching.start([builders.process(ONE.pid)])
    assert watching.problems == ["no process has memory to watch"]
    assert watching.start([builders.process(ONE.pid), PROCESSES[1]])
    assert damon.watched(machine.root) == (OTHER.pid,)


def test_a_kernel_that_does_not_begin_leaves_nothing_set_up(machine, kernel):
    kernel.write(ADMIN / "0/pid", -1)
    kernel.refuse("0/state")
    watching = damon_of(machine)

    assert not watching.start(PROCESSES)

    assert "could not be started: [Errno 22]" in watching.problems[0]
    assert kernel.read("nr_kdamonds") == "0"


def test_a_kdamond_that_ends_at_once_leaves_nothing_set_up(machine, kernel):
    kernel.write(ADMIN / "0/pid", -1)
    watching = damon_of(machine)

    assert not watching.start(PROCESSES)

    assert "ended at once" in watching.problems[0]
    assert kernel.read("nr_kdamonds") == "0"


def test_what_cannot_be_released_is_said(watching, kernel):
    kernel.refuse("0/state", by=kernel.root)

    watching.stop()

    assert "could not be released: [Errno 21]" in watching.problems[0]
    assert watching.collect() == {}


def test_the_cost_is_the_cpu_time_of_the_kernels_thread_and_is_known_after_its_end(watching, machine):
    machine.write(f"proc/{KDAMOND}/stat", stat(KDAMOND, "kdamond.0", utime=30))
    assert watching.cost_s == pytest.approx(30 / TICKS_PER_S)

    watching.stop()
    machine.end(KDAMOND)

    assert watching.cost_s == pytest.approx(30 / TICKS_PER_S)


@pytest.mark.parametrize(("ticks", "sample_us"), [(0, 5000), (1_000_000, 4 * 5120)])
def test_the_next_pace_follows_from_what_this_one_cost(machine, kernel, ticks, sample_us):
    watching = damon_of(machine, core_share=0.5)
    watching.start(PROCESSES)
    assert watching.pace.sample_us == 5120
    machine.write(f"proc/{KDAMOND}/stat", stat(KDAMOND, "kdamond.0", utime=ticks))
    time.sleep(watching.pace.aggr_us * 1e-6)

    watching.start(PROCESSES)

    assert watching.pace.sample_us == sample_us


def test_nothing_follows_from_less_than_a_round(watching):
    before = watching.pace

    watching.start(PROCESSES)

    assert watching.pace == before


@given(
    processes=st.integers(1, 2000),
    check_s=st.floats(1e-8, 1e-3),
    core_share=st.floats(0.01, 1),
    watch_s=st.floats(1, 60),
)
def test_the_pace_costs_no_more_than_its_share_of_a_core(processes, check_s, core_share, watch_s):
    pace = pace_of(processes, check_s, core_share=core_share, watch_s=watch_s)

    regions = pace.most_regions / 2
    assert regions * check_s <= core_share * (pace.sample_us + 1) * 1e-6
    assert 8 <= regions / processes <= 128
    assert 3 <= pace.fewest_regions < pace.most_regions
    assert pace.aggr_us == CHECKS * pace.sample_us


sizes = st.lists(st.tuples(st.integers(1, 1 << 30), st.integers(0, 1 << 20)), max_size=40)


@given(sizes, st.integers(8, 128), st.sampled_from([4096, 2 << 20]))
def test_what_has_memory_is_cut_into_no_more_pieces_than_wanted(sizes, pieces, page_bytes):
    regions = builders.regions(*({0: min(most, pages)} for most, pages in sizes), page_bytes=page_bytes)

    edges = cut(regions, pieces)

    assert len(edges) <= pieces
    assert (edges[:, 0] < edges[:, 1]).all()
    assert (edges[:-1, 1] <= edges[1:, 0]).all()
    assert not ((edges[:, 1] - edges[:, 0]) % page_bytes).any()
    assert bool(len(edges)) == bool(regions.resident_bytes.any())


def test_the_largest_memory_is_cut_finest():
    regions = builders.regions({0: 100}, {0: 10_000}, {0: 20_000})

    edges = cut(regions, 64)

    of_each = [
        ((edges[:, 0] >= low) & (edges[:, 1] <= high)).sum()
        for low, high in zip(regions.start, regions.end, strict=True)
    ]
    assert [int(count) for count in of_each] == [1, 21, 41]
