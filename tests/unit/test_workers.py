# SPDX-License-Identifier: Apache-2.0

"""Workers run calls that may never return, and never wait for one that does not."""

import threading
import time

import pytest

from numad_py.model import ProcessKey
from numad_py.workers import Unfinished, Workers, came_back, expect

ONE, TWO, THREE, FOUR = (ProcessKey(pid, 0) for pid in range(1, 5))
SOON = 0.05


def wait_until(done):
    until_s = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.005)


@pytest.fixture
def gate():
    """Give an event that stuck calls wait for; opened at the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


def test_results_come_in_the_order_of_the_tasks():
    workers = Workers()

    results = workers.run([(ONE, lambda: 1), (TWO, lambda: 2), (THREE, lambda: 3)], threads=2)

    assert results == [1, 2, 3]


def test_what_the_kernel_refuses_is_a_result():
    def refused():
        raise ProcessLookupError("gone")

    results = Workers().run([(ONE, refused), (TWO, lambda: 2)])

    assert isinstance(results[0], ProcessLookupError)
    assert results[1] == 2


def test_any_other_error_is_raised_where_it_was_asked_for():
    def wrong():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Workers().run([(ONE, wrong), (TWO, lambda: 2)])


def test_a_stuck_call_delays_nobody_and_is_named(gate):
    workers = Workers(patience_s=SOON)

    results = workers.run([(ONE, gate.wait), (TWO, lambda: 2)])

    assert results == [Unfinished.STUCK, 2]
    assert workers.stuck == (ONE,)


def test_a_process_that_is_stuck_is_not_asked_again_until_its_call_returns(gate):
    workers = Workers(patience_s=SOON)
    workers.run([(ONE, gate.wait)])

    during = workers.run([(ONE, lambda: 1), (TWO, lambda: 2)])
    gate.set()
    wait_until(lambda: not workers.stuck)
    after = workers.run([(ONE, lambda: 1)])

    assert during == [Unfinished.STUCK, 2]
    assert after == [1]


def test_with_two_stuck_processes_nothing_more_is_begun(gate):
    workers = Workers(patience_s=SOON, stuck_limit=2)
    asked = []

    results = workers.run([(ONE, gate.wait), (TWO, gate.wait), (THREE, lambda: asked.append(3))], threads=1)
    later = workers.run([(FOUR, lambda: asked.append(4))])

    assert results == [Unfinished.STUCK, Unfinished.STUCK, Unfinished.POSTPONED]
    assert later == [Unfinished.POSTPONED]
    assert not asked


def test_two_stuck_calls_of_one_process_count_once(gate):
    workers = Workers(patience_s=SOON, stuck_limit=2)

    results = workers.run([(ONE, gate.wait), (ONE, gate.wait), (TWO, lambda: 2)], threads=2)

    assert results == [Unfinished.STUCK, Unfinished.STUCK, 2]
    assert workers.stuck == (ONE,)


def test_a_task_of_many_calls_that_come_back_is_not_stuck_however_long_it_takes():
    workers = Workers(patience_s=1.0)

    def goes_on():
        for _ in range(4):
            time.sleep(0.3)
            came_back()
        return 1

    assert workers.run([(ONE, goes_on)]) == [1]


def test_a_call_that_has_to_take_long_is_waited_for_as_long_as_it_said():
    workers = Workers(patience_s=SOON)

    def takes_long():
        expect(60.0)
        time.sleep(4 * SOON)
        return 1

    assert workers.run([(ONE, takes_long)]) == [1]


def test_what_comes_back_too_late_is_still_set_aside(gate):
    workers = Workers(patience_s=SOON)
    late = threading.Event()

    def returns_late():
        gate.wait()
        came_back()
        late.set()

    results = workers.run([(ONE, returns_late)])
    gate.set()
    late.wait(10)
    wait_until(lambda: not workers.stuck)

    assert results == [Unfinished.STUCK]


@pytest.fixture
def starting(monkeypatch):
    """Give a function that lets so many threads be started, and no more."""
    start = threading.Thread.start

    def at_most(left):
        def starts(thread):
            nonlocal left
            left -= 1
            if left < 0:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", starts)

    return at_most


def test_where_only_one_thread_can_be_started_it_does_all(starting):
    starting(1)

    assert Workers().run([(ONE, lambda: 1), (TWO, lambda: 2), (THREE, lambda: 3)], threads=2) == [1, 2, 3]


def test_where_no_thread_can_be_started_nothing_is_begun_and_nothing_is_stuck(starting):
    starting(0)
    workers = Workers()

    assert workers.run([(ONE, lambda: 1), (TWO, lambda: 2)], threads=2) == [Unfinished.NO_THREAD] * 2
    assert workers.stuck == ()


def test_where_none_can_be_started_in_the_place_of_a_stuck_one_the_rest_is_not_begun(gate, starting):
    starting(1)

    results = Workers(patience_s=SOON).run([(ONE, gate.wait), (TWO, lambda: 2)])

    assert results == [Unfinished.STUCK, Unfinished.NO_THREAD]


def test_nothing_to_do_is_done_at_once():
    assert Workers().run([]) == []
