# SPDX-License-Identifier: Apache-2.0

"""Memory follows a process only where it stays long enough for the move to pay."""

from dataclasses import replace

import pytest

from numad_py.guard.phases import Phases
from numad_py.model import Ending, Outcome
from tests.builders import GIB, MIB, move, process, snapshot


def looked(phase_s, until_s, *, took_s=0.1, turns=100):
    """Follow a process that changes its node that often, at most so many times; give what speaks against a move there."""
    phases, one = Phases(), process(pages={0: 100, 1: 100})
    phases.learn(replace(move(one), limit_bytes=100 * MIB), Outcome(Ending.DONE, 100 * MIB, took_s=took_s))
    for time_s in range(until_s + 1):
        home = min(time_s // phase_s, turns) % 2
        seen = snapshot(float(time_s), processes=[process(pages={0: 100, 1: 100}, cpu_s={home: 1.0})])
        phases.look(seen)
    phases.learn(replace(move(one), limit_bytes=100 * MIB), Outcome(Ending.DONE, 100 * MIB, took_s=took_s))
    wish = move(one, sources=(1 - home,), targets=(home,), limit_bytes=100 * MIB)
    return phases.too_short(wish, seen), phases


def test_a_process_that_turns_every_other_second_is_left_alone():
    against, phases = looked(2, 23, took_s=0.5)

    assert against == {"phase_left_s": 1.0, "pays_after_s": pytest.approx(0.5 / 0.18)}
    assert phases.home(process().key) == 1


def test_one_that_turns_every_25_seconds_is_followed():
    assert looked(25, 103, took_s=1.0)[0] is None


def test_one_that_turns_no_more_is_followed_once_it_stayed_twice_as_long():
    assert looked(2, 9, took_s=0.5, turns=3)[0]
    assert looked(2, 11, took_s=0.5, turns=3)[0] is None


def test_too_few_turns_tell_nothing():
    assert looked(2, 5, took_s=5.0)[0] is None


def test_a_move_to_where_it_does_not_run_is_another_matter():
    _, phases = looked(2, 23, took_s=5.0)
    one = process(pages={0: 100})
    elsewhere = move(one, sources=(1,), targets=(0,), limit_bytes=GIB)

    assert phases.too_short(elsewhere, snapshot(24.0, processes=[one])) is None


def test_one_that_runs_everywhere_or_not_at_all_has_no_home():
    phases = Phases()

    phases.look(snapshot(processes=[process(1, cpu_s={0: 1.0, 1: 1.0}), process(2)]))

    assert [phases.home(process(pid).key) for pid in (1, 2, 3)] == [-1, -1, -1]


def test_one_that_was_bound_has_no_phases_any_more():
    against, phases = looked(2, 23, took_s=0.5)
    one = process(pages={0: 100, 1: 100}, cpu_s={1: 1.0})

    phases.bound(one.key)
    seen = snapshot(24.0, processes=[one])
    phases.look(seen)

    assert against
    assert phases.too_short(move(one, sources=(0,), targets=(1,), limit_bytes=100 * MIB), seen) is None
