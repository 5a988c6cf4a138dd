# SPDX-License-Identifier: Apache-2.0

"""Jobs that run on several nodes are watched in turn, for a while, and never again too soon."""

from concurrent.futures import wait
from dataclasses import replace

import numpy as np
import pytest

from numad_py.kernel import Malformed
from numad_py.model import REGION_COLUMNS, Accesses, AccessSource, ProcessKey
from numad_py.sense.investigate.investigations import CORE_SHARE, EVERY_S, WATCH_S, Investigations
from tests.builders import TWO_NODES, job, process, regions


class Watcher:
    """A source that notes what it is asked for, and tells what it was given to tell."""

    def __init__(self, *, can=True, why=(), sees=True, sees_shared=True):
        self.can, self.problems, self.cost_s = can, list(why), 0.0
        self.sees, self.sees_shared = sees, sees_shared
        self.settled, self.watched, self.stops = False, [], 0

    def start(self, processes):
        if self.can:
            self.watched.append([each.key.pid for each in processes])
        return self.can

    def is_settled(self):
        return self.settled

    def collect(self):
        return {ProcessKey(self.watched[-1][0], 7): SEEN} if self.sees else {}

    def stop(self):
        self.stops += 1


SEEN = Accesses(AccessSource.DAMON, (), *[np.zeros(0, np.uint64)] * 2, np.zeros((0, 0)), 20, 10.0)
ON_BOTH, ON_ONE = {0: 2.0, 1: 2.0}, {0: 4.0}


def jobs(*cpu_s):
    return [job(process(pid, cpu_s=each), cgroup_id=pid) for pid, each in enumerate(cpu_s, 100)]


@pytest.fixture
def investigate():
    """Give a function that makes investigations of no length."""
    made = []

    def make(*sources, watch_s=0.0):
        made.append(Investigations(TWO_NODES, sources, watch_s=watch_s))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def found(watching, times_s, *cpu_s):
    """Take turns at these times, waiting for what each begins; give the PIDs that were told of."""
    told = []
    for time_s in times_s:
        watching.turn(time_s, jobs(*cpu_s))
        if watching.watching:
            wait([watching.watching])
            told += [key.pid for key in watching.turn(time_s, jobs(*cpu_s)).accesses]
    return told


def test_a_job_that_runs_on_several_nodes_is_watched_and_told_of(investigate):
    watcher = Watcher()

    told = found(investigate(watcher), range(20), ON_BOTH)

    assert (told, watcher.watched, watcher.stops) == ([100], [[100]], 1)


def test_a_job_on_one_node_has_nothing_to_find_out(investigate):
    watcher = Watcher()

    found(investigate(watcher), range(20), ON_ONE)

    assert watcher.watched == []


def test_a_job_is_not_watched_again_too_soon(investigate):
    watcher = Watcher()
    watching = investigate(watcher)

    turns = [len(found(watching, [time_s], ON_BOTH)) for time_s in (0, 10, EVERY_S - 1, EVERY_S)]

    assert turns == [1, 0, 0, 1]


def test_jobs_take_turns(investigate):
    watcher = Watcher()

    found(investigate(watcher), range(100), ON_BOTH, ON_ONE, ON_BOTH)

    assert watcher.watched == [[100], [102]]


def test_who_waits_longest_is_next_and_none_is_left_out(investigate):
    """However many there are: the first are due again before the last were watched."""
    watcher, many = Watcher(), [ON_BOTH] * 80

    found(investigate(watcher), range(0, 80 * 10, 10), *many)

    assert sorted(watcher.watched) == [[pid] for pid in range(100, 180)]


def test_a_job_is_not_watched_in_a_look_that_does_not_tell_its_threads(investigate):
    watching = investigate(watcher := Watcher())
    found(watching, [0], ON_BOTH)

    found(watching, [EVERY_S / 2, EVERY_S - 1], ON_BOTH)
    found(watching, [EVERY_S, EVERY_S + 1], {})
    assert len(watcher.watched) == 1
    found(watching, [EVERY_S + 2], ON_BOTH)

    assert len(watcher.watched) == 2


def test_a_job_that_ran_on_one_node_for_weeks_is_watched_soon_after_it_runs_on_two(investigate):
    watching, two_weeks_s = investigate(watcher := Watcher()), 14 * 24 * 3600
    found(watching, range(0, two_weeks_s, 60), {0: 60.0})

    found(watching, range(two_weeks_s, two_weeks_s + int(EVERY_S), 60), {0: 30.0, 1: 30.0})

    assert watcher.watched == [[100]]


def test_the_first_source_that_can_does_it_and_the_others_say_why_not(investigate):
    unable, able = Watcher(can=False, why=["no such thing here"]), Watcher()
    watching = investigate(unable, able)

    told = found(watching, range(20), ON_BOTH)

    assert told == [100]
    assert watching.problems == ("no such thing here",)


def test_where_a_source_sees_nothing_the_next_is_asked_and_both_are_paid_for(investigate):
    blind, able = Watcher(sees=False), Watcher()
    blind.cost_s, able.cost_s = 0.25, 0.5
    watching = investigate(blind, able)
    watching.turn(0.0, jobs(ON_BOTH))
    wait([watching.watching], timeout=60)

    ended = watching.turn(1.0, jobs(ON_BOTH))

    assert ([key.pid for key in ended.accesses], ended.cost_s) == ([100], 0.75)
    assert (blind.watched, blind.stops, able.watched, able.stops) == ([[100]], 1, [[100]], 1)


def test_who_is_told_to_stop_asks_no_further_source(investigate):
    blind, able = Watcher(sees=False), Watcher()
    watching = investigate(blind, able, watch_s=60.0)
    watching.turn(0.0, jobs(ON_BOTH))

    watching.stop()

    assert (len(blind.watched), able.watched) == (1, [])


def test_who_is_told_to_stop_does_not_wait_for_what_was_seen(investigate):
    collected, watcher = [], Watcher()
    watcher.collect = lambda: collected.append(True) or {}
    watching = investigate(watcher, watch_s=60.0)
    watching.turn(0.0, jobs(ON_BOTH))

    watching.stop()

    assert (len(watcher.watched), collected, watcher.stops) == (1, [], 1)


def test_where_no_source_sees_anything_it_is_paid_for_all_the_same(investigate):
    blind = Watcher(sees=False)
    blind.cost_s = 0.25
    watching = investigate(blind)
    watching.turn(0.0, jobs(ON_BOTH))
    wait([watching.watching], timeout=60)

    ended = watching.turn(1.0, jobs(ON_BOTH))

    assert (ended.accesses, ended.cost_s) == ({}, 0.25)


@pytest.mark.parametrize(("shared_mb", "watched"), [(60, [[], [[100]]]), (40, [[[100]], []])])
def test_of_a_job_that_mostly_shares_its_memory_a_source_that_sees_what_is_shared_is_asked_first(
    investigate, shared_mb, watched
):
    own, shared = regions({0: (100 - shared_mb) * 256}), regions({0: shared_mb * 256}, backing=1, mapmax=2)
    sources = Watcher(sees_shared=False), Watcher()
    watching = investigate(*sources)
    both = replace(
        own, **{name: np.concatenate([getattr(own, name), getattr(shared, name)]) for name in REGION_COLUMNS}
    )
    sharing = job(process(100, cpu_s=ON_BOTH, regions=both), cgroup_id=100)

    watching.turn(0.0, [sharing])
    wait([watching.watching], timeout=60)

    assert [each.watched for each in sources] == watched


def test_what_tells_nothing_new_any_more_ends_early(investigate):
    watcher = Watcher()
    watcher.settled = True

    told = found(investigate(watcher, watch_s=3600.0), [0], ON_BOTH)

    assert (told, watcher.stops) == ([100], 1)


def test_what_costs_too_much_ends_early_and_what_it_cost_is_told(investigate):
    watcher = Watcher()
    watcher.cost_s = CORE_SHARE * WATCH_S + 0.1
    watching = investigate(watcher, watch_s=60.0)
    watching.turn(0.0, jobs(ON_BOTH))
    wait([watching.watching], timeout=60)

    ended = watching.turn(1.0, jobs(ON_BOTH))

    assert ended.cost_s == pytest.approx(1.1)
    assert watcher.stops == 1


def test_nothing_is_left_behind_at_the_end(investigate):
    watcher = Watcher()
    watching = investigate(watcher, watch_s=60.0)
    watching.turn(0.0, jobs(ON_BOTH))

    watching.stop()
    watching.stop()

    assert watcher.stops == 1


def test_what_the_kernel_refuses_meanwhile_is_told_and_ends_nothing_else(investigate):
    def gone():
        raise FileNotFoundError(2, "No such file", "/gone")

    refused, able = Watcher(), Watcher()
    refused.collect = gone
    watching = investigate(refused, able)

    told = found(watching, range(3), ON_BOTH)

    assert told == [100]
    assert watching.problems == ("an investigation ended early: [Errno 2] No such file: '/gone'",)
    assert refused.stops == 1


def test_a_process_whose_files_make_no_sense_is_told_and_ends_nothing_else(investigate):
    def garbled():
        raise Malformed("maps: b'x'")

    watcher = Watcher()
    watcher.collect = garbled
    watching = investigate(watcher)

    found(watching, range(3), ON_BOTH)

    assert watching.problems == ("an investigation ended early: maps: b'x'",)


def test_of_problems_without_end_the_last_few_are_remembered(investigate):
    watching = investigate(Watcher(can=False, why=[f"process {pid} is gone" for pid in range(100)]))

    found(watching, range(1), ON_BOTH)

    assert watching.problems == tuple(f"process {pid} is gone" for pid in range(80, 100))


def test_what_goes_wrong_with_a_source_is_not_lost(investigate):
    watcher = Watcher()
    watcher.collect = lambda: 1 / 0
    watching = investigate(watcher)

    with pytest.raises(ZeroDivisionError):
        found(watching, range(3), ON_BOTH)

    assert watcher.stops == 1
