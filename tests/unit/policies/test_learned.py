# SPDX-License-Identifier: Apache-2.0

"""What a model expects decides; without one, and where it knows nothing, the rules of threshold do."""

import numpy as np
import pytest

from numad_py.model import Decision, Refusal
from numad_py.policies.candidates import whole
from numad_py.policies.features import LONGEST_S, NAMES, Histories
from numad_py.policies.homes import NO_EVIDENCE, SEVERAL
from numad_py.policies.learned import Learned, LearnedParameters
from numad_py.policies.threshold import Threshold
from numad_py.policies.trees import LEAF, Model, Tree, Trees, written
from tests.builders import MIB, job, node_memory, process, snapshot

LEAF_ALONE = Tree((0,), (0.0,), (LEAF,), (LEAF,), (0.0,))
REMOTE = {0: 9000, 1: 1000}
PATIENT = {"patience": 3, "at_once_within_s": 0.0}


def expecting(times, most=1e9):
    """Give a model that expects as much of everything, as far as no feature is above."""
    size = len(NAMES)
    file = written(Model(NAMES, (-1.0,) * size, (most,) * size, 60.0, times, 0.1, (LEAF_ALONE,)))
    return Trees(file, NAMES)


def late_bound(pages=REMOTE, **more):
    return process(pages=pages, cpu_s={1: 0.9}, **more)


def plans(policy, *processes):
    return [policy.decide(snapshot(float(at), processes=[one])) for at, one in enumerate(processes)]


def test_what_a_model_expects_to_pay_moves_at_once():
    policy = Learned(LearnedParameters(**PATIENT), expecting(1.0))

    seen = plans(policy, late_bound())

    assert [len(plan.moves) for plan in seen] == [1]


def test_what_a_model_expects_nothing_of_stays_however_long_it_is_remote():
    policy = Learned(LearnedParameters(**PATIENT), expecting(0.0))

    seen = plans(policy, *[late_bound()] * 6)

    assert [len(plan.moves) for plan in seen] == [0] * 6


@pytest.mark.parametrize(("expected", "moves"), [(0.2, False), (0.3, True)])
def test_of_who_was_elsewhere_a_little_is_not_believed(expected, moves):
    elsewhere = process(pages=REMOTE, cpu_s={0: 0.9})
    steady, turned = (Learned(LearnedParameters(**PATIENT), expecting(expected)) for _ in range(2))

    assert plans(steady, late_bound())[-1].moves
    assert bool(plans(turned, elsewhere, late_bound())[-1].moves) is moves


@pytest.mark.parametrize(("within_s", "moves"), [(0.0, False), (60.0, True)])
def test_what_pays_before_a_model_could_be_wrong_moves_whatever_it_expects(within_s, moves):
    steady, turned = (Learned(LearnedParameters(at_once_within_s=within_s), expecting(0.0)) for _ in range(2))

    assert bool(plans(steady, late_bound())[-1].moves) is moves
    assert not plans(turned, process(pages=REMOTE, cpu_s={0: 0.9}), late_bound())[-1].moves


def test_a_move_has_the_saving_that_was_expected_among_its_figures():
    rules, doubled = Threshold(), Learned(LearnedParameters(), expecting(2.0))

    plain, learned = (plans(policy, *[late_bound()] * 2)[-1].moves[0].figures for policy in (rules, doubled))

    assert learned["saving_ns_per_s"] == pytest.approx(2 * plain["saving_ns_per_s"])


@pytest.mark.parametrize("model", ["it is not there", expecting(9.0, most=0.5)])
def test_without_a_model_or_an_answer_it_is_threshold(model):
    rules, policy = Threshold(LearnedParameters(**PATIENT)), Learned(LearnedParameters(**PATIENT), model)

    by_rules, by_model = (
        [len(plan.moves) for plan in plans(each, *[late_bound()] * 4)] for each in (rules, policy)
    )

    assert by_model == by_rules == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("model.json: cannot be read", "weighed by the rules of threshold: model.json: cannot be read"),
        (expecting(1.0, most=0.5), "weighed by the rules of threshold: the model knows nothing like it"),
        (expecting(1.0), "weighed by the model: saving_ns_per_s is what it expects"),
    ],
)
def test_an_explanation_says_what_weighed(model, said):
    policy = Learned(LearnedParameters(**PATIENT), model)
    plans(policy, late_bound())

    told = policy.explain(late_bound().key)

    assert told.notes == (said,)


def test_what_was_not_weighed_is_explained_as_threshold_does():
    policy = Learned()
    plans(policy, process(pages=REMOTE, cpu_s={1: 0.0}))

    told = policy.explain(late_bound().key)

    assert (told.decision, policy.explain(late_bound(pid=7).key)) == (Decision.NO_EVIDENCE, None)


def test_a_share_of_the_jobs_is_withheld_and_marked_and_always_the_same():
    jobs = [job(late_bound(pid=pid), late_bound(pid=pid + 200), cgroup_id=pid) for pid in range(1, 201)]
    seen = snapshot(jobs=jobs, memory=node_memory(free={1: 1 << 40}))

    first, again = (
        Learned(LearnedParameters(withheld_share=0.1), expecting(1.0)).decide(seen) for _ in range(2)
    )

    withheld = [held.process for held in first.held if held.why is Refusal.WITHHELD]
    assert 20 <= len(withheld) <= 60
    assert len(first.moves) + len(withheld) == 400
    assert {key.pid % 200 for key in withheld}.isdisjoint(move.process.pid % 200 for move in first.moves)
    assert withheld == [held.process for held in again.held]


def test_who_is_withheld_takes_no_room_from_others():
    drawn, other = (job(late_bound(pid=pid), cgroup_id=pid) for pid in (1, 2))
    policy = Learned(LearnedParameters(withheld_share=0.5), expecting(1.0))
    tight = node_memory(free={0: 0, 1: 8 * MIB + 4096 * 9000})

    plan = policy.decide(snapshot(jobs=[drawn, other], memory=tight))

    assert [(held.process.pid, held.why) for held in plan.held] == [(1, Refusal.WITHHELD)]
    assert [(move.process.pid, move.limit_bytes // 4096) for move in plan.moves] == [(2, 9000)]


def test_nobody_is_withheld_unless_that_is_wished():
    plan = Learned(LearnedParameters(), expecting(1.0)).decide(snapshot(processes=[late_bound()]))

    assert [held.why for held in plan.held if held.why is Refusal.WITHHELD] == []


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_withheld_share_is_a_share(share):
    with pytest.raises(ValueError, match=r"^withheld_share: a share is between 0 and 1$"):
        LearnedParameters(withheld_share=share)


def features(*homes):
    """Give the features of one process at the last look, which was at home at those nodes, one look a second."""
    histories = Histories()
    for at, home in enumerate(homes):
        seen = snapshot(float(at), processes=[late_bound()])
        histories.look(seen, np.array([home]), seen.cpu_s)
    rows = histories.rows(whole(seen, np.array([1]), seen.cpu_s), seen, seen.cpu_s)
    return dict(zip(NAMES, rows[0].tolist(), strict=True))


def test_a_steady_process_is_known_for_as_long():
    found = features(1, 1, 1)

    assert [found[name] for name in ("known_s", "steady_s", "turns", "last_stay_s")] == [2, 2, 0, LONGEST_S]


def test_a_turn_begins_anew_and_tells_how_long_it_stayed_before():
    found = features(0, 0, 1, 1)

    assert [found[name] for name in ("known_s", "steady_s", "turns", "last_stay_s")] == [3, 1, 1, 2]


def test_what_is_left_of_a_stay_is_what_stays_took_before_less_what_has_passed():
    assert [features(*homes)["stay_left_s"] for homes in ((1, 1), (0, 0, 0, 1, 1), (0, 1, 1, 1))] == [
        LONGEST_S,
        2,
        -1,
    ]
    assert features(0, 0, 0, 0, 1, 1, 0)["stay_left_s"] == 3  # after four and two


def test_what_is_left_of_a_life_is_what_others_of_the_job_lived_less_what_has_passed():
    histories, left = Histories(), {}
    for at, pids in enumerate([(1, 2), (1, 2), (1, 3), (1, 3), (1, 3)]):
        seen = snapshot(float(at), processes=[late_bound(pid=pid) for pid in pids])
        home = np.ones(len(pids), np.int64)
        histories.look(seen, home, seen.cpu_s)
        rows = histories.rows(whole(seen, home, seen.cpu_s), seen, seen.cpu_s)
        left[at] = rows[:, NAMES.index("life_left_s")].tolist()

    assert left == {0: [LONGEST_S] * 2, 1: [LONGEST_S] * 2, 2: [0, 2], 3: [-1, 1], 4: [-2, 0]}


def test_of_a_job_that_ended_nothing_is_kept():
    histories = Histories()
    for at, pid in enumerate((1, 2, 3)):
        seen = snapshot(float(at), jobs=[job(late_bound(pid=pid), cgroup_id=pid // 3)])
        histories.look(seen, np.array([1]), seen.cpu_s)
        rows = histories.rows(whole(seen, np.array([1]), seen.cpu_s), seen, seen.cpu_s)

    assert rows[0, NAMES.index("life_left_s")] == LONGEST_S


def test_a_look_without_evidence_is_no_turn_and_several_nodes_are_one():
    idle, several = features(1, NO_EVIDENCE, 1), features(1, SEVERAL, 1)

    assert [found["turns"] for found in (idle, several)] == [0, 2]
    assert several["several_share"] > idle["several_share"] == 0


def test_a_first_home_after_none_is_no_turn():
    assert features(NO_EVIDENCE, 1)["turns"] == 0
