# SPDX-License-Identifier: Apache-2.0

"""Jobs that run on several nodes are watched in turn, for a while, and never again too soon."""

import numpy as np
import pytest

from numad_py.model import Accesses, AccessSource, ProcessKey
from numad_py.sense.investigations import CORE_SHARE, EVERY_S, WATCH_S, Found, Investigations
from tests.builders import TWO_NODES, job, process


class Watcher:
    """A source that notes what it is asked for, and tells what it was given to tell."""

    def __init__(self, *, can=True, why=()):
        self.can, self.problems, self.cost_s = can, list(why), 0.0
        self.watched, self.stops = [], 0

    def start(self, processes):
        if self.can:
            self.watched.append([each.key.pid for each in processes])
        return self.can

    def collect(self):
        return {ProcessKey(self.watched[-1][0], 7): SEEN}

    def stop(self):
        self.stops += 1


SEEN = Accesses(AccessSource.DAMON, (), *[np.zeros(0, np.uint64)] * 2, np.zeros((0, 0)), 20, 10.0)
ON_BOTH, ON_ONE = {0: 2.0, 1: 2.0}, {0: 4.0}


def jobs(*cpu_s):
    return [job(process(pid, cpu_s=each), cgroup_id=pid) for pid, each in enumerate(cpu_s, 100)]


def found(watching, times_s, *cpu_s):
    """Take a turn at each of these times; give, by time, whose accesses were told."""
    told = {time_s: watching.turn(time_s, jobs(*cpu_s)) for time_s in times_s}
    return {time_s: [key.pid for key in each.accesses] for time_s, each in told.items() if each.accesses}


def test_a_job_that_runs_on_several_nodes_is_watched_for_a_while_and_told_of():
    watcher = Watcher()

    told = found(Investigations(TWO_NODES, [watcher]), range(20), ON_BOTH)

    assert watcher.watched == [[100]]
    assert told == {WATCH_S: [100]}
    assert watcher.stops == 1


def test_a_job_on_one_node_has_nothing_to_find_out():
    watcher = Watcher()

    found(Investigations(TWO_NODES, [watcher]), range(20), ON_ONE)

    assert watcher.watched == []


def test_a_job_is_not_watched_again_too_soon():
    watcher = Watcher()

    told = found(Investigations(TWO_NODES, [watcher]), range(1300), ON_BOTH)

    assert list(told) == [WATCH_S, EVERY_S + WATCH_S, 2 * EVERY_S + WATCH_S]


def test_jobs_take_turns():
    watcher = Watcher()

    found(Investigations(TWO_NODES, [watcher]), range(100), ON_BOTH, ON_ONE, ON_BOTH)

    assert watcher.watched == [[100], [102]]


def test_the_first_source_that_can_does_it_and_the_others_say_why_not():
    unable, able = Watcher(can=False, why=["no such thing here"]), Watcher()
    watching = Investigations(TWO_NODES, [unable, able])

    told = found(watching, range(20), ON_BOTH)

    assert list(told) == [WATCH_S]
    assert watching.problems == ("no such thing here",)


def test_what_costs_too_much_ends_early_and_what_it_cost_is_told():
    watcher = Watcher()
    watching = Investigations(TWO_NODES, [watcher])
    watching.turn(0.0, jobs(ON_BOTH))
    watcher.cost_s = CORE_SHARE * WATCH_S + 0.1

    ended = watching.turn(1.0, jobs(ON_BOTH))

    assert ended.cost_s == pytest.approx(1.1)
    assert watcher.stops == 1


def test_a_job_that_is_gone_is_watched_no_longer():
    watcher = Watcher()
    watching = Investigations(TWO_NODES, [watcher])
    watching.turn(0.0, jobs(ON_BOTH))

    watching.turn(1.0, [])

    assert watcher.stops == 1


def test_nothing_is_left_behind_at_the_end():
    watcher = Watcher()
    watching = Investigations(TWO_NODES, [watcher])
    watching.turn(0.0, jobs(ON_BOTH))

    watching.stop()
    watching.stop()

    assert watcher.stops == 1
    assert watching.turn(1.0, []) == Found()
