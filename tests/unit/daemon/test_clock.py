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
    assert took_s < 1


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


def test_a_stop_ends_a_wait_under_way_and_every_later_one():
    clock = LiveClock()
    clock.wait(60)
    threading.Timer(0.05, clock.stop).start()

    (going_on, took_s), (again, again_s) = timed(clock, 60), timed(clock, 60)

    assert (going_on, again) == (False, False)
    assert took_s + again_s < 10


def test_a_stop_in_a_signal_handler_never_waits_for_the_loop_it_interrupts():
    subprocess.run([sys.executable, "-c", STOPPED_AT_ANY_MOMENT], cwd=ROOT, timeout=60, check=True)
