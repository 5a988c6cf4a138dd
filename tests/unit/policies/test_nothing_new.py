# SPDX-License-Identifier: Apache-2.0

"""A look that tells nothing new is not weighed again, and decides what weighing it would have."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Accesses, AccessSource, Ending, Outcome, Refusal, ThreadGroup, Tick
from numad_py.policies import threshold
from numad_py.policies.homes import homes
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests.builders import MIB, plain, process, regions, snapshot, threads

RULES = ThresholdParameters(patience=2, at_once_within_s=0.0)
NO_THREADS = threads({})


class Weighing(Threshold):
    """Weighs every look."""

    def _is_news(self, snapshot, fresh):
        super()._is_news(snapshot, fresh)
        return True


def seen(policy, snapshots):
    """Give what it plans and explains, where every move is carried out."""
    for each in snapshots:
        plan = policy.decide(each)
        policy.review(Tick(each, plan, tuple(Outcome(Ending.DONE, move.limit_bytes) for move in plan.moves)))
        yield plain((plan, tuple(policy.explain(known.key) for known in each.processes)))


def accesses(of):
    """Say that each half of its memory is used on a node of its own."""
    groups = tuple(
        ThreadGroup(node, np.array([node]), np.array([1.0 - node, float(node)])) for node in (0, 1)
    )
    return Accesses(
        AccessSource.PEBS,
        groups,
        of.regions.start,
        of.regions.end,
        np.array([[90, 0], [0, 90]], np.int64),
        None,
        10.0,
    )


@st.composite
def looks(draw):
    """Draw looks a second apart at processes that sleep but now and then run, are placed anew, investigated, gone."""
    known, read_s, placed_s, found = {}, {}, {}, []
    for time_s in range(draw(st.integers(1, 12))):
        for pid in (1, 2):
            happens = draw(
                st.sampled_from(["sleeps", "sleeps", "runs", "runs on both", "placed", "told", "gone"])
            )
            if happens == "gone":
                known.pop(pid, None)
                continue
            if pid not in known or happens == "placed":
                pages = draw(st.sampled_from([{0: 9000}, {0: 4000, 1: 5000}, {1: 9000}]))
                backing = draw(st.sampled_from([0, 0, 7]))
                kept = regions(pages, {0: 3000}, mapmax=2 if backing else 1, backing=backing)
                known[pid], placed_s[pid] = process(pid, regions=kept), float(time_s)
                read_s.setdefault(pid, float(time_s))
            cpu_s = {"runs": {draw(st.integers(0, 1)): 0.9}, "runs on both": {0: 1.9, 1: 1.9}}.get(
                happens, {}
            )
            if cpu_s:
                read_s[pid] = float(time_s)
            told = accesses(known[pid]) if happens == "told" else None
            known[pid] = replace(
                known[pid],
                threads=threads(cpu_s) if cpu_s else NO_THREADS,
                cpu_age_s=time_s - read_s[pid],
                placement_age_s=time_s - placed_s[pid],
                accesses=told,
            )
        found.append(snapshot(float(time_s), processes=tuple(known[pid] for pid in sorted(known))))
    return found


@given(looks())
def test_a_look_that_tells_nothing_new_decides_what_weighing_it_would_have(snapshots):
    assert list(seen(Threshold(RULES), snapshots)) == list(seen(Weighing(RULES), snapshots))


def sleeping(time_s, of):
    """Give the same process as it was read at first."""
    asleep = replace(of, threads=NO_THREADS, cpu_age_s=time_s, placement_age_s=time_s)
    return snapshot(time_s, processes=[asleep])


def test_who_sleeps_is_not_weighed_again(monkeypatch):
    policy, one, weighed = Threshold(RULES), process(pages={0: 9000}, cpu_s={1: 0.9}), []
    monkeypatch.setattr(
        threshold, "homes", lambda *known, **rules: weighed.append(1) or homes(*known, **rules)
    )
    policy.decide(snapshot(0.0, processes=[one]))

    for time_s in range(1, 10):
        policy.decide(sleeping(float(time_s), one))

    assert len(weighed) == 1


def test_who_grew_and_then_slept_needs_no_room():
    policy, small = Threshold(RULES), process(pages={0: 9000}, cpu_s={1: 0.9})
    policy.decide(snapshot(0.0, processes=[small]))
    grown = replace(small, regions=regions({0: 9000 + 200 * MIB // 4096}))
    before = policy.decide(snapshot(1.0, processes=[grown]))
    for time_s in range(2, 10):
        asleep = replace(grown, threads=NO_THREADS, cpu_age_s=time_s - 1.0)
        policy.decide(snapshot(float(time_s), processes=[asleep]))

    plan = policy.decide(snapshot(10.0, processes=[grown]))

    assert [[held.why for held in each.held] for each in (before, plan)] == [[Refusal.NO_ROOM], []]


def test_what_an_investigation_told_while_nobody_ran_is_kept():
    policy, one = Threshold(RULES), process(regions=regions({0: 9000}, {0: 9000}), cpu_s={0: 0.9, 1: 0.9})
    policy.decide(snapshot(0.0, processes=[one]))
    asleep = replace(one, threads=NO_THREADS, cpu_age_s=1.0)
    policy.decide(snapshot(1.0, processes=[replace(asleep, accesses=accesses(one))]))

    plans = [policy.decide(snapshot(time_s, processes=[one])) for time_s in (2.0, 3.0)]

    assert [move.limit_bytes // 4096 for plan in plans for move in plan.moves] == [9000]


def test_who_is_gone_while_nobody_ran_is_forgotten():
    policy, one, other = Threshold(RULES), process(1, pages={0: 9000}, cpu_s={1: 0.9}), process(2)
    policy.decide(snapshot(0.0, processes=[one, other]))
    policy.decide(snapshot(1.0, processes=[replace(other, cpu_age_s=1.0)]))

    plan = policy.decide(snapshot(2.0, processes=[one, other]))

    assert not plan.moves
