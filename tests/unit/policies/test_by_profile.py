# SPDX-License-Identifier: Apache-2.0

"""Every job goes to the policy that its label names, and only to that one."""

from numad_py.guard import Guard, Limits
from numad_py.model import Ending, MoveTasks, Outcome, Plan, Reason, Refusal, Tick, Wait, Waits
from numad_py.policies.by_profile import ByProfile
from numad_py.policies.hold import Hold
from numad_py.policies.threshold import Threshold
from numad_py.roles import Policy
from tests.builders import GIB, MIB, TWO_NODES, by_node, job, move, node_memory, process, snapshot


class Greedy(Policy):
    """Moves every process to node 1, and remembers what it was shown."""

    def __init__(self):
        self.seen = []
        self.reviewed = []

    def decide(self, snapshot):
        self.seen.append(snapshot)
        processes = [process for job in snapshot.jobs for process in job.processes]
        return Plan(
            tuple(move(process, limit_bytes=64 * MIB) for process in processes),
            task_moves=tuple(MoveTasks(process.key, (1,), Reason.SPREAD) for process in processes),
        )

    def review(self, tick):
        self.reviewed.append(tick)


def test_each_policy_sees_only_its_own_jobs():
    first, second = Greedy(), Greedy()
    policy = ByProfile({"a": first, "b": second})
    jobs = [job(process(pid), profile=profile) for pid, profile in [(1, "a"), (2, "b"), (3, "neither")]]

    plan = policy.decide(snapshot(jobs=jobs))

    assert [move.process.pid for move in plan.moves] == [1, 2]
    assert [move.process.pid for move in plan.task_moves] == [1, 2]
    assert [len(one.seen[0].jobs) for one in (first, second)] == [1, 1]


def test_a_later_policy_is_not_offered_room_that_an_earlier_one_will_fill():
    first, second = Greedy(), Greedy()
    policy = ByProfile({"a": first, "b": second})
    jobs = [job(process(1), profile="a"), job(process(2), profile="b")]

    policy.decide(snapshot(jobs=jobs, memory=node_memory(free={0: GIB, 1: GIB})))

    assert (
        second.seen[0].memory.free_bytes.tolist() == by_node({0: GIB, 1: GIB - 64 * MIB}, TWO_NODES).tolist()
    )


def test_each_policy_reviews_its_own_moves():
    first, second = Greedy(), Greedy()
    policy = ByProfile({"a": first, "b": second})
    jobs = [job(process(1), process(2), profile="a"), job(process(3), profile="b")]
    seen = snapshot(jobs=jobs)

    plan = policy.decide(seen)
    outcomes = tuple(Outcome(Ending.DONE, moved_bytes=number) for number in range(3))
    task_outcomes = tuple(Outcome(Ending.DONE, moved_threads=number) for number in range(3))
    policy.review(Tick(seen, plan, outcomes, task_outcomes))

    assert [outcome.moved_bytes for outcome in first.reviewed[0].outcomes] == [0, 1]
    assert [outcome.moved_bytes for outcome in second.reviewed[0].outcomes] == [2]
    assert [outcome.moved_threads for outcome in first.reviewed[0].task_outcomes] == [0, 1]
    assert [outcome.moved_threads for outcome in second.reviewed[0].task_outcomes] == [2]


def test_what_outlives_a_restart_is_that_of_all_and_given_to_all():
    before = ByProfile({"a": Guard(Greedy(), Limits()), "b": Guard(Greedy(), Limits()), "c": Greedy()})
    jobs = [job(process(1), profile="a"), job(process(2), profile="b")]
    after = ByProfile({"b": Guard(Greedy(), Limits(limit_mb_per_s=1e6)), "c": Greedy()})
    before.recall(Waits(tuple((process(pid).key, Wait(quiet_until_s=200.0)) for pid in (1, 2))))
    before.decide(snapshot(100.0, jobs=jobs))

    after.recall(before.waits())
    after.decide(snapshot(101.0, jobs=jobs))
    plan = after.decide(snapshot(102.0, jobs=jobs))

    assert {held.why for held in plan.held} >= {Refusal.BACKOFF}
    assert not plan.moves


def test_a_process_is_explained_by_the_policy_of_its_own_job():
    holding, spreading = Hold(), Threshold()
    policy = ByProfile({"a": holding, "b": spreading})
    one, other = process(1), process(2)

    policy.decide(snapshot(jobs=[job(one, profile="a"), job(other, profile="b")]))

    assert policy.explain(one.key) == holding.explain(one.key)
    assert policy.explain(other.key) == spreading.explain(other.key)
    assert policy.explain(process(3).key) is None
