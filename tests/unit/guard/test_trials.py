# SPDX-License-Identifier: Apache-2.0

"""The guard takes back what slowed a job, leaves it alone for longer each time, and says what it cannot know."""

from dataclasses import replace
from itertools import count

import msgspec

from numad_py.guard import Guard, Limits
from numad_py.guard.trials import Trials
from numad_py.model import (
    Ending,
    JobCounters,
    MoveTasks,
    Outcome,
    Plan,
    Reason,
    Refusal,
    Tick,
    Verdict,
    Waits,
)
from numad_py.roles import Policy
from tests.builders import MIB, TWO_NODES, job, move, process, regions, snapshot, topology

PAGES = 100
LIMITS = Limits(1e6, cooldown_s=10, backoff_s=30, tasks=True)


class Sends(Policy):
    """Wishes all pages of a process to a node: always the same, or in turn."""

    def __init__(self, *targets, every_s=1, tasks=False):
        self.targets, self.every_s, self.tasks = targets, every_s, tasks

    def decide(self, snapshot):
        target = self.targets[int(snapshot.time_s) // self.every_s % len(self.targets)]
        wishes = [(one, MoveTasks(one.key, (target,), Reason.SPREAD)) for one in snapshot.processes]
        if self.tasks:
            return Plan(task_moves=tuple(wish for _, wish in wishes))
        return Plan(tuple(move(one, sources=(1 - target,), targets=(target,)) for one, _ in wishes))


class Nothing(Policy):
    """Wishes nothing."""

    def decide(self, snapshot):
        return Plan()


class World:
    """A job on two nodes whose speed depends on where its pages are; ``tell`` makes a job of progress and speed."""

    def __init__(self, policy, *, speeds=(1.0, 0.8), tell=None, limits=LIMITS, guard=None):
        self.guard = guard or Guard(policy, limits)
        self.speeds, self.node, self.progress = speeds, 0, 0.0
        self.tell = tell or reporting
        self.judged, self.moved, self.held = [], [], []
        self.time_s = 100.0

    def run(self, looks):
        for _ in range(looks):
            self._turn()
            self.time_s += 1
        return self

    def _turn(self):
        speed = self.speeds[self.node]
        self.progress += speed
        one = process(regions=regions({self.node: PAGES}))
        seen = snapshot(self.time_s, jobs=[self.tell(job(one), self.progress, speed)])
        plan = self.guard.decide(seen)
        done = tuple(map(self._carry_out, plan.moves))
        tasks = tuple(Outcome(Ending.DONE, moved_threads=1) for _ in plan.task_moves)
        self.guard.review(Tick(seen, plan, done, tasks))
        self.judged += [(self.time_s, each.verdict) for each in plan.judged]
        self.held += [(self.time_s, each.why) for each in plan.held]

    def _carry_out(self, move):
        if move.targets == (self.node,):
            return Outcome(Ending.DONE)
        self.node = move.targets[0]
        self.moved.append((self.time_s, self.node, move.reason))
        return Outcome(Ending.DONE, PAGES * 4096)

    @property
    def verdicts(self):
        return [verdict for _, verdict in self.judged]


def reporting(job, progress, speed):
    return replace(job, progress=progress)


def stalled(job, progress, speed):
    return replace(job, progress=17.0)


def silent(job, progress, speed):
    return job


def counted(job, progress, speed):
    return replace(job, counters=JobCounters(1.0, {}, stall_share=1 - speed / 2, verified=True))


def test_what_slowed_a_job_is_taken_back_and_not_tried_again_for_twice_as_long_each_time():
    world = World(Sends(1)).run(700)

    there = [time_s for time_s, node, _ in world.moved if node == 1]
    back = [(time_s, reason) for time_s, node, reason in world.moved if node == 0]
    assert set(world.verdicts) == {Verdict.TAKEN_BACK}
    assert {reason for _, reason in back} == {Reason.TAKEN_BACK}
    assert [after_s - before_s for before_s, (after_s, _) in zip(there, back, strict=True)] == [14.0] * len(
        back
    )
    waited = [after - before for (before, _), after in zip(back, there[1:], strict=False)]
    assert waited == [120.0, 240.0]


def test_a_job_that_reports_is_first_moved_once_its_own_pace_is_known():
    world = World(Sends(1)).run(30)

    assert world.moved[0][0] == 116.0
    assert {why for time_s, why in world.held if 100 < time_s < 116} == {Refusal.UNKNOWN_PACE}
    assert {why for time_s, why in world.held if time_s > 120} == {Refusal.JUDGED}


def test_what_helped_stays_where_it_is():
    world = World(Sends(1), speeds=(0.8, 1.0)).run(200)

    assert world.verdicts == [Verdict.HELPED]
    assert [(node, reason) for _, node, reason in world.moved] == [(1, Reason.MEMORY_FOLLOWS_CPU)]


def test_what_made_no_difference_stays_and_the_job_is_left_alone_for_a_while():
    world = World(Sends(1, 0, every_s=40), speeds=(1.0, 1.0)).run(120)

    assert set(world.verdicts) == {Verdict.NO_DIFFERENCE}
    assert all(reason is not Reason.TAKEN_BACK for *_, reason in world.moved)
    assert Refusal.NO_HELP in {why for _, why in world.held}


def test_verified_counters_judge_as_progress_does_and_nobody_waits_for_them():
    world = World(Sends(0, 1, every_s=120), tell=counted).run(60)

    assert world.verdicts == [Verdict.TAKEN_BACK]
    assert world.moved[0][0] == 120.0
    assert world.node == 0


def test_without_progress_and_counters_a_move_is_unverified_and_stays():
    world = World(Sends(1), tell=silent).run(100)

    assert world.judged == [(103.0, Verdict.UNVERIFIED)]
    assert [(time_s, node) for time_s, node, _ in world.moved] == [(101.0, 1)]


def test_ping_pong_is_undone_without_any_evidence():
    world = World(Sends(1, 0), tell=silent).run(120)

    assert Verdict.PING_PONG in world.verdicts
    assert world.node == 0
    assert Refusal.NO_HELP in {why for _, why in world.held}


def test_a_job_that_stops_reporting_is_not_waited_for_without_end():
    world = World(Sends(1)).run(20)
    world.tell = stalled

    world.run(700)

    assert world.verdicts[0] is Verdict.UNVERIFIED
    assert Verdict.TAKEN_BACK not in world.verdicts


def test_moved_threads_are_judged_too():
    world = World(Sends(0, 1, every_s=120, tasks=True), tell=silent).run(5)

    assert Verdict.UNVERIFIED not in world.verdicts
    assert world.guard.waits().tasks


def test_a_job_of_which_a_move_was_taken_back_is_left_alone_after_a_restart():
    before = World(Sends(1)).run(40)
    waits = before.guard.waits()
    fresh = Guard(Sends(1), LIMITS)
    fresh.recall(waits)

    after = World(None, guard=fresh, tell=silent)
    after.time_s = before.time_s
    after.run(20)

    assert [wait.failures for _, wait in waits.jobs] == [1]
    assert {why for _, why in after.held} == {Refusal.NO_HELP}
    assert not after.moved


def restarted(world, policy, *, tell):
    """Give the same job under a daemon that knows what the last one wrote down."""
    waits = msgspec.json.decode(msgspec.json.encode(world.guard.waits()), type=Waits)
    fresh = Guard(policy, LIMITS)
    fresh.recall(waits)
    after = World(None, guard=fresh, tell=tell)
    after.time_s, after.node = world.time_s, world.node
    return after


def reporting_after(looks_s):
    """Have a job report again some time after a restart."""
    looks = count(1)

    def tell(job, progress, speed):
        return replace(job, progress=progress if next(looks) > looks_s else None)

    return tell


def test_a_trial_goes_on_after_a_restart_and_what_slowed_the_job_is_taken_back():
    before = World(Sends(1)).run(20)

    after = restarted(before, Nothing(), tell=reporting_after(5)).run(40)

    assert (before.node, before.verdicts) == (1, [])
    assert (after.node, after.verdicts) == (0, [Verdict.TAKEN_BACK])
    assert after.moved[0][2] is Reason.TAKEN_BACK


def test_a_trial_goes_on_where_the_job_is_seen_again_only_later():
    before = World(Sends(1)).run(20)
    after = restarted(before, Nothing(), tell=reporting)
    after.guard.decide(snapshot(after.time_s))

    after.run(40)

    assert after.verdicts == [Verdict.TAKEN_BACK]


def test_after_a_restart_a_job_that_never_reports_again_is_not_waited_for_without_end():
    after = restarted(World(Sends(1)).run(20), Nothing(), tell=silent).run(610)

    assert after.verdicts == [Verdict.UNVERIFIED]


def test_moves_that_nothing_can_judge_are_not_kept():
    waits = World(Sends(1), tell=silent).run(3).guard.waits()

    assert waits.unjudged == ()


def test_taking_back_goes_on_after_a_restart_once_the_process_is_seen():
    before = World(Sends(1)).run(30)
    seen = snapshot(
        130.0, jobs=[reporting(job(process(regions=regions({1: PAGES}))), before.progress + 0.8, 0.8)]
    )
    asked = before.guard.decide(seen)

    after = restarted(before, Nothing(), tell=silent)
    unseen = after.guard.decide(snapshot(131.0, jobs=[job(process(pid=2))]))
    after.time_s = 132.0
    after.run(3)

    assert [move.reason for move in asked.moves] == [Reason.TAKEN_BACK]
    assert unseen.moves == ()
    assert after.moved == [(132.0, 0, Reason.TAKEN_BACK)]
    assert after.guard.waits().unjudged == ()


def test_what_is_owed_to_a_process_that_is_never_seen_again_is_forgotten_after_a_while():
    before = World(Sends(1)).run(30)
    progress = before.progress + 0.8
    before.guard.decide(snapshot(130.0, jobs=[reporting(job(process(pages={1: PAGES})), progress, 0.8)]))
    after = restarted(before, Nothing(), tell=silent)

    owed = []
    for time_s in (131.0, 429.0, 430.0):
        after.guard.decide(snapshot(time_s, jobs=[job(process(pid=2))]))
        owed.append(len(after.guard.waits().unjudged))

    assert owed == [1, 1, 0]


def test_taking_back_is_given_up_where_the_kernel_refuses():
    world = World(Sends(1)).run(30)
    one = process(regions=regions({1: PAGES}))
    answers = iter([Ending.REFUSED])

    for time_s in count(130):
        progress = world.progress + 0.8 * (time_s - 129)
        seen = snapshot(float(time_s), jobs=[replace(job(one), progress=progress)])
        plan = world.guard.decide(seen)
        if not plan.moves:
            break
        world.guard.review(Tick(seen, plan, tuple(Outcome(next(answers)) for _ in plan.moves)))

    assert time_s == 131


def test_a_job_that_moves_without_end_is_judged_all_the_same():
    guard = Guard(Sends(1), LIMITS)
    refused = []

    for time_s in range(100, 160):
        seen = snapshot(float(time_s), jobs=[replace(job(process(pages={0: PAGES})), progress=float(time_s))])
        plan = guard.decide(seen)
        guard.review(Tick(seen, plan, tuple(Outcome(Ending.LIMIT, moved_bytes=MIB) for _ in plan.moves)))
        refused += [time_s for held in plan.held if held.why is Refusal.JUDGED]

    assert refused[0] == 131


def test_taking_back_goes_on_until_all_is_back_or_the_process_ended():
    world = World(Sends(1)).run(30)
    one = process(regions=regions({1: PAGES}))
    plans = []

    for time_s, members in [(130.0, (one,)), (131.0, (one,)), (132.0, ()), (133.0, (one,))]:
        progress = world.progress + 0.8 * (time_s - 129)
        seen = snapshot(time_s, jobs=[replace(job(*members), progress=progress)])
        plans.append(world.guard.decide(seen))
        world.guard.review(Tick(seen, plans[-1], (Outcome(Ending.LIMIT, 4096),) * len(plans[-1].moves)))

    assert [[each.reason for each in plan.moves] for plan in plans] == [
        [Reason.TAKEN_BACK],
        [Reason.TAKEN_BACK],
        [],
        [],
    ]


def looked(trials, time_s, one, on=TWO_NODES):
    trials.look(snapshot(time_s, jobs=[job(one)], on=on), {})


def moved(trials, time_s, one):
    trials.learn(one, move(one), Outcome(Ending.DONE, MIB), time_s)


def test_after_ping_pong_nothing_is_owed_to_workers_that_ended():
    trials, ended, last = Trials(LIMITS), process(1, pages={0: PAGES}), process(2, pages={0: PAGES})
    for time_s, one in ((100.0, ended), (103.0, last)):
        looked(trials, time_s, one)
        moved(trials, time_s, one)

    trials.ping_pong(last.key)
    looked(trials, 104.0, last)

    assert list(trials.unjudged()) == []


def test_where_a_node_came_after_a_move_what_is_taken_back_is_what_was_moved_since():
    trials, on = Trials(LIMITS), topology(3)
    before, after = process(pages={0: PAGES}), process(pages={0: PAGES}, on=on)
    for time_s, one, its in ((100.0, before, TWO_NODES), (101.0, after, on)):
        looked(trials, time_s, one, its)
        moved(trials, time_s, one)

    trials.ping_pong(after.key)
    looked(trials, 102.0, process(pages={1: PAGES}, on=on), on)

    assert [(wish.targets, wish.limit_bytes // 4096) for wish in trials.wishes()] == [((0,), PAGES)]
