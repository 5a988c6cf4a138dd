# SPDX-License-Identifier: Apache-2.0

"""A replay lives the recorded demand, and nothing of what the recorded policy did about it."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from numad_py import loop
from numad_py.model import Ending, JobMemory, Mempolicy, Plan, ProcessKey, RegionKind
from numad_py.policies.hold import Hold
from numad_py.roles import Policy
from numad_py.sim import demand
from numad_py.sim.cost import default_prices
from numad_py.sim.replay import replay, scores
from tests.builders import (
    GIB,
    MIB,
    TWO_NODES,
    job,
    move,
    node_memory,
    process,
    regions,
    tick,
)

PAGE = 4096
PRICES = default_prices(TWO_NODES)


class Asks(Policy):
    """Wishes at every tick to move every process's pages to one node."""

    def __init__(self, target=1, limit_bytes=GIB, most_wishes=1000):
        self.target, self.limit_bytes, self.left = target, limit_bytes, most_wishes
        self.seen = []

    def decide(self, snapshot):
        self.seen.append(snapshot)
        sources = tuple(node for node in snapshot.topology.node_ids if node != self.target)
        wishes = [
            move(each, sources=sources, targets=(self.target,), limit_bytes=self.limit_bytes)
            for group in snapshot.jobs
            for each in group.processes
        ]
        wishes, self.left = wishes[: self.left], self.left - len(wishes)
        return Plan(tuple(wishes))

    def review(self, tick):
        pass


class AsksLater(Asks):
    """Wishes for nothing at the first look."""

    def decide(self, snapshot):
        plan = super().decide(snapshot)
        return plan if len(self.seen) > 1 else Plan()


def lived(recorded, policy=None, **how):
    """Replay under one policy and give its own ticks."""
    return [turn["it"] for turn in replay(recorded, {"it": policy or Hold()}, PRICES, **how)]


def pages_of(ticks):
    """Give the pages of the first process by node, at each look."""
    return [one.snapshot.jobs[0].processes[0].regions.pages.sum(axis=0).tolist() for one in ticks]


def looks(*processes, memory=None, on=TWO_NODES):
    """Record one look a second, each of one process, or of several in a tuple."""
    together = [each if isinstance(each, tuple) else (each,) for each in processes]
    return [tick(time_s=100.0 + at, processes=each, memory=memory, on=on) for at, each in enumerate(together)]


def test_the_first_look_is_the_recorded_placement():
    assert pages_of(lived(looks(process(pages={0: 70, 1: 30})))) == [[70, 30]]


def test_what_the_recorded_policy_moved_later_is_not_seen():
    recorded = looks(
        process(pages={0: 70, 1: 30}), process(pages={0: 0, 1: 100}), process(pages={0: 50, 1: 50})
    )

    assert pages_of(lived(recorded)) == [[70, 30]] * 3


def test_what_the_policy_moves_is_seen_at_the_next_look():
    recorded = looks(*[process(pages={0: 100})] * 3)

    assert pages_of(lived(recorded, Asks(limit_bytes=60 * PAGE))) == [[100, 0], [40, 60], [0, 100]]


def test_growth_is_placed_where_the_process_ran():
    recorded = looks(
        process(pages={0: 100}, cpu_s={0: 1.0}), process(pages={0: 140}, cpu_s={0: 0.25, 1: 0.75})
    )

    assert pages_of(lived(recorded))[-1] == [110, 30]


def test_a_process_that_sleeps_grows_where_it_last_ran():
    recorded = looks(process(pages={0: 100}, cpu_s={1: 1.0}), process(pages={0: 140}))

    assert pages_of(lived(recorded))[-1] == [100, 40]


def test_a_process_that_never_ran_grows_on_the_first_node_it_may_use():
    recorded = looks(process(pages={0: 100}, nodes_allowed=(1,)), process(pages={0: 140}, nodes_allowed=(1,)))

    assert pages_of(lived(recorded))[-1] == [100, 40]


def test_shrinking_takes_from_every_node_in_proportion():
    assert pages_of(lived(looks(process(pages={0: 60, 1: 40}), process(pages={1: 50}))))[-1] == [30, 20]


def test_a_new_region_is_first_touched_and_one_that_vanished_is_gone():
    first = process(regions=regions({0: 10}), cpu_s={1: 1.0})
    other = process(regions=regions({0: 25}, start=0x7F00_0000_0000), cpu_s={1: 1.0})

    assert pages_of(lived(looks(first, other))) == [[10, 0], [0, 25]]


def test_bound_growth_follows_the_rows_own_pattern():
    first = process(regions=regions({0: 30, 1: 10}, mempolicy=Mempolicy.BIND), cpu_s={1: 1.0})
    grown = process(regions=regions({0: 80}, mempolicy=Mempolicy.BIND), cpu_s={1: 1.0})

    assert pages_of(lived(looks(first, grown)))[-1] == [60, 20]


def test_first_touch_goes_to_the_next_node_when_its_own_is_full():
    memory = node_memory(free={0: 8 * MIB + 100 * PAGE, 1: GIB // 2})
    recorded = looks(
        process(pages={0: 10}, cpu_s={0: 1.0}), process(pages={0: 210}, cpu_s={0: 1.0}), memory=memory
    )
    recorded[1] = replace(
        recorded[1],
        snapshot=replace(
            recorded[1].snapshot, memory=node_memory(free={0: 8 * MIB, 1: GIB // 2 - 100 * PAGE})
        ),
    )

    assert pages_of(lived(recorded))[-1] == [110, 100]


def test_first_touch_stays_within_the_cpuset_of_now():
    first = process(pages={0: 10}, cpu_s={0: 1.0})
    confined = process(pages={0: 30}, cpu_s={0: 1.0}, nodes_allowed=(1,))

    assert pages_of(lived(looks(first, confined)))[-1] == [10, 20]


def test_a_process_first_seen_without_regions_is_placed_as_first_recorded():
    recorded = looks(
        process(), process(pages={0: 100}, cpu_s={1: 1.0}), process(pages={1: 100}, cpu_s={1: 1.0})
    )

    assert pages_of(lived(recorded)) == [[0, 0], [100, 0], [100, 0]]


def test_a_region_keeps_its_placement_through_looks_that_do_not_show_it():
    shown = process(pages={0: 100}, cpu_s={1: 1.0})

    assert pages_of(lived(looks(shown, process(), shown)))[-1] == [0, 100]  # unmapped, mapped anew


def test_a_process_that_was_skipped_for_a_look_is_not_taken_for_new():
    shown, moved = process(pages={0: 100}), process(pages={1: 100})

    turns = lived(looks(shown, (), moved))

    assert pages_of([turns[0], turns[2]]) == [[100, 0], [100, 0]]


def test_a_process_that_is_back_unchanged_is_where_the_policy_had_put_it():
    shown = process(pages={0: 100})
    memory = node_memory(free={0: 100 * MIB, 1: 100 * MIB})

    turns = lived(looks(shown, (), shown, memory=memory), Asks(most_wishes=1))

    assert pages_of([turns[0], turns[2]]) == [[100, 0], [0, 100]]
    free_bytes = turns[2].snapshot.memory.free_bytes
    assert free_bytes.tolist() == [100 * MIB + 100 * PAGE, 100 * MIB - 100 * PAGE]


def test_only_so_many_processes_are_remembered_after_they_left(monkeypatch):
    monkeypatch.setattr(demand, "MOST_LEFT", 1)
    one, other = process(1, pages={0: 100}), process(2, pages={0: 100})
    later = tuple(replace(each, regions=regions({1: 100})) for each in (one, other))

    *_, last = lived(looks((one, other), (), later))

    assert [each.regions.pages.tolist() for each in last.snapshot.jobs[0].processes] == [
        [[0, 100]],
        [[100, 0]],
    ]


def test_every_job_is_labelled_with_the_policy_and_what_its_cgroup_was_charged_is_withheld():
    asks = Asks()
    charged = JobMemory(np.array([1, 0]), np.array([0, 0]))

    lived([tick(jobs=[job(process(pages={0: 1}), memory=charged)])], asks)

    (seen,) = asks.seen
    assert [(each.profile, each.memory) for each in seen.jobs] == [("it", None)]


def test_free_memory_follows_what_the_policy_moves():
    memory = node_memory(free={0: 100 * MIB, 1: 100 * MIB}, anon={0: 25600 * PAGE})
    recorded = looks(*[process(pages={0: 25600})] * 2, memory=memory)

    before, after = (one.snapshot.memory for one in lived(recorded, Asks()))

    gained = [92 * MIB // PAGE * PAGE, -(92 * MIB // PAGE) * PAGE]  # all that fits over the high watermark
    assert (after.free_bytes - before.free_bytes).tolist() == gained
    assert (before.anon_bytes - after.anon_bytes).tolist() == gained
    assert before.free_bytes.tolist() == memory.free_bytes.tolist()


def test_clean_page_cache_makes_way_and_dirty_does_not():
    memory = node_memory(
        free={0: 0, 1: 10 * MIB}, file={1: 80 * MIB}, inactive_file={1: 60 * MIB}, dirty={1: 20 * MIB}
    )
    recorded = looks(*[process(pages={0: 25600})] * 2, memory=memory)

    first, second = lived(recorded, Asks())

    moved = first.outcomes[0].moved_bytes
    now = second.snapshot.memory
    assert first.outcomes[0].ending is Ending.NO_ROOM
    assert moved == (10 + 60 - 20 - 8) * MIB
    assert now.free_bytes[1] == 0
    assert now.file_bytes[1] == 80 * MIB - (moved - 10 * MIB)
    assert now.inactive_file_bytes[1] == 60 * MIB - (moved - 10 * MIB)


def test_memory_of_a_process_that_ended_is_free_again():
    job_and_rest = node_memory(free={0: 300 * MIB, 1: 300 * MIB}, anon={0: 100 * MIB})
    rest_alone = node_memory(free={0: 400 * MIB, 1: 300 * MIB})
    recorded = looks(process(pages={0: 25600}), (), memory=job_and_rest)
    recorded[1] = tick(replace(recorded[1].snapshot, memory=rest_alone))

    before, after = (one.snapshot.memory for one in lived(recorded))

    assert (after.free_bytes - before.free_bytes).tolist() == [100 * MIB, 0]
    assert (before.anon_bytes.tolist(), after.anon_bytes.tolist()) == ([100 * MIB, 0], [0, 0])


def test_memory_that_several_processes_map_is_counted_with_everyone_elses():
    shared = process(regions=regions({0: 25600}, mapmax=2))
    memory = node_memory(free={0: 10 * MIB, 1: 300 * MIB}, anon={0: 25600 * PAGE})

    (only,) = lived(looks((shared, replace(shared, key=ProcessKey(2, 2))), memory=memory))

    assert only.snapshot.memory.free_bytes.tolist() == [10 * MIB, 300 * MIB]
    assert only.snapshot.memory.anon_bytes.tolist() == [25600 * PAGE, 0]


def test_file_pages_that_move_are_no_anonymous_memory_on_their_target():
    mapped = process(regions=regions({0: 100}, kind=RegionKind.FILE))

    before, after = (one.snapshot.memory for one in lived(looks(mapped, mapped), Asks()))

    assert (after.free_bytes - before.free_bytes).tolist() == [100 * PAGE, -100 * PAGE]
    assert after.anon_bytes.tolist() == before.anon_bytes.tolist()


def test_page_cache_grows_on_the_node_where_it_did():
    recorded = looks(*[process(pages={0: 1})] * 2, memory=node_memory(free={0: 500 * MIB, 1: 500 * MIB}))
    cached = node_memory(free={0: 500 * MIB, 1: 400 * MIB}, file={1: 100 * MIB})
    recorded[1] = tick(replace(recorded[1].snapshot, memory=cached))

    _, after = (one.snapshot.memory.free_bytes for one in lived(recorded))

    assert after.tolist() == [500 * MIB, 400 * MIB]


def test_memory_that_a_late_label_brings_in_was_there_before():
    idle, late = process(1, pages={0: 1}), process(2, pages={0: 25600})
    memory = node_memory(free={0: 200 * MIB, 1: 300 * MIB})

    before, after = (one.snapshot.memory for one in lived(looks(idle, (idle, late), memory=memory)))

    assert after.free_bytes.tolist() == before.free_bytes.tolist()


def test_other_processes_growth_takes_free_memory_as_they_lay_at_first():
    recorded = looks(*[process(pages={0: 1})] * 2, memory=node_memory(free={0: 512 * MIB, 1: 768 * MIB}))
    used_more = node_memory(free={0: 412 * MIB, 1: 676 * MIB})
    recorded[1] = replace(recorded[1], snapshot=replace(recorded[1].snapshot, memory=used_more))

    _, after = (one.snapshot.memory.free_bytes for one in lived(recorded))

    assert after[0] == pytest.approx(384 * MIB, abs=PAGE)  # two thirds of 192 MB
    assert after[1] == pytest.approx(704 * MIB, abs=PAGE)


def test_moves_of_one_tick_share_its_deadline():
    recorded = looks((process(1, pages={0: 1000}), process(2, pages={0: 1000})))

    (only,) = lived(recorded, Asks(), deadline_s=0.0015)

    assert [each.ending for each in only.outcomes] == [Ending.DONE, Ending.DEADLINE]
    assert sum(each.took_s for each in only.outcomes) <= 0.0015


def test_moves_take_no_longer_than_the_daemons_would():
    one = process(pages={0: 100_000})
    recorded = [tick(time_s=at, processes=[one]) for at in (100.0, 100.1)]

    _, second = lived(recorded, AsksLater())

    assert [each.ending for each in second.outcomes] == [Ending.DEADLINE]
    assert second.outcomes[0].took_s == pytest.approx(0.1 * loop.ACTING_SHARE, abs=1e-5)


def test_a_process_that_ended_and_a_node_outside_the_cpuset_are_answered_so():
    class Wrong(Asks):
        def decide(self, snapshot):
            (wish,) = super().decide(snapshot).moves
            return Plan((replace(wish, process=ProcessKey(9, 9)), wish))

    (only,) = lived(looks(process(pages={0: 10}, nodes_allowed=(0,))), Wrong())

    assert [each.ending for each in only.outcomes] == [Ending.GONE, Ending.REFUSED]


def test_memory_does_not_grow_with_the_trace(monkeypatch):
    monkeypatch.setattr(demand, "MOST_LEFT", 8)

    def peak_bytes(length):
        coming_and_going = (
            tick(time_s=at, processes=[process(10 + at, regions=regions(*[{0: 100}] * 50))])
            for at in range(length)
        )
        tracemalloc.start()
        scores(coming_and_going, {"it": Hold()}, PRICES)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(300) < 2 * peak_bytes(30)


def test_policies_side_by_side_do_not_see_each_other():
    recorded = looks(*[process(pages={0: 100}, cpu_s={1: 1.0})] * 3)

    together = [
        (one["a"].snapshot, one["b"].snapshot) for one in replay(recorded, {"a": Asks(), "b": Hold()}, PRICES)
    ]

    a, b = zip(*together, strict=True)
    assert [each.jobs[0].processes[0].regions.pages.tolist() for each in a] == [
        [[100, 0]],
        [[0, 100]],
        [[0, 100]],
    ]
    assert [each.jobs[0].processes[0].regions.pages.tolist() for each in b] == [[[100, 0]]] * 3


def test_the_ticks_are_those_of_the_loop(monkeypatch):
    asked = []
    original = loop.ticks
    monkeypatch.setattr(loop, "ticks", lambda *roles, **how: asked.append(roles) or original(*roles, **how))

    lived(looks(process(pages={0: 1})))

    assert len(asked) == 1
