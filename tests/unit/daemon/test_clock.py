# SPDX-License-Identifier: Apache-2.0

"""The clock keeps a steady period, catches nothing up, and ends at once."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from numad_py.daemon.clock import LiveClock

ROOT = Path(__file__).parents[3]
PERIOD_S = 0.1

# A clock that takes a lock in stop() is dead after some 200 of these.
STOPPED_AT_ANY_MOMENT = """
import signal
from numad_py.daemon.clock import LiveClock

clock = LiveClock()
signal.signal(signal.SIGALRM, lambda *_: clock.stop())
for _ in range(2000):
    clock = LiveClock()
    signal.setitimer(signal.ITIMER_REAL, 0.0002)
    while clock.wait(0.00001):
        pass
"""


def timed(clock, period_s=PERIOD_S):
    """Wait once; give what the clock said and how long it took."""
    began_s = time.monotonic()
    going_on = clock.wait(period_s)
    return going_on, time.monotonic() - began_s


def test_the_first_turn_is_at_once():
    going_on, took_s = timed(LiveClock(), period_s=10)

    assert going_on
    assert took_s < 5


def test_turns_come_at_a_steady_period_however_long_each_takes():
    clock = LiveClock()
    clock.wait(PERIOD_S)
    began_s = time.monotonic()

    for _ in range(4):
        time.sleep(PERIOD_S / 2)
        clock.wait(PERIOD_S)

    # Were the turns added to the periods, it would be 6 of them.
    assert 3.9 * PERIOD_S < time.monotonic() - began_s < 5.5 * PERIOD_S


def test_a_turn_that_took_too_long_is_followed_by_one_at_once_and_then_by_whole_periods():
    clock = LiveClock()
    clock.wait(PERIOD_S)
    time.sleep(5 * PERIOD_S)

    waited_s = [timed(clock)[1] for _ in range(3)]

    assert waited_s[0] < PERIOD_S / 2
    assert min(waited_s[1:]) > PERIOD_S / 2


def test_a_turn_that_was_woken_is_followed_by_a_whole_period_and_no_more():
    clock = LiveClock()
    clock.wait(PERIOD_S)
    clock.wake()

    waited_s = [timed(clock)[1] for _ in range(3)]

    assert waited_s[0] < PERIOD_S / 2
    assert all(PERIOD_S / 2 < each_s < 1.5 * PERIOD_S for each_s in waited_s[1:])


def test_what_is_asked_for_meanwhile_is_done_and_brings_no_turn_sooner():
    clock, done = LiveClock(), []
    clock.wait(PERIOD_S)
    for number in range(3):
        clock.meanwhile(lambda number=number: done.append(number))

    _, waited_s = timed(clock)

    assert done == [0, 1, 2]
    assert waited_s > PERIOD_S / 2


def test_turns_that_are_always_late_do_what_is_asked_for_too():
    clock, done = LiveClock(), []
    clock.wait(0.0)
    clock.meanwhile(lambda: done.append(1))

    clock.wait(0.0)

    assert done == [1]


def test_a_stop_ends_a_wait_under_way_and_every_later_one():
    clock = LiveClock()
    clock.wait(60)
    threading.Timer(0.05, clock.stop).start()

    (going_on, took_s), (again, again_s) = timed(clock, 60), timed(clock, 60)

    assert (going_on, again) == (False, False)
    assert took_s + again_s < 30


def test_a_stop_in_a_signal_handler_never_waits_for_the_loop_it_interrupts():
    subprocess.run([sys.executable, "-c", STOPPED_AT_ANY_MOMENT], cwd=ROOT, timeout=60, check=True)
