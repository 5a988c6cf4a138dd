# SPDX-License-Identifier: Apache-2.0

"""The oracle's time is never above the best plan's, and that never above a policy's; with room and time they are one."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Plan
from numad_py.policies.hold import Hold
from numad_py.roles import Policy
from numad_py.sim.cost import default_prices
from numad_py.sim.replay import scores
from tests.builders import GIB, TWO_NODES, job, move, node_memory, process, regions, tick

PAGE = 4096
PAGE_S = 0.1  # so dear that the best plan leaves pages where they are now and then
SMALL = replace(default_prices(TWO_NODES), move_ns=((PAGE, PAGE_S * 1e9),), call_ns=0)
LARGE = default_prices(TWO_NODES)
MANY = 100_000  # pages, so that rounding to whole ones does not count
ENOUGH = 20 * MANY
cores = st.sampled_from([{}, {0: 1.0}, {1: 1.0}, {0: 0.25, 1: 0.75}])
wishes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(1, 5)), max_size=3)


class Drawn(Policy):
    """Wishes what was drawn: by look, the row of a process, a target, and so many lots of pages."""

    def __init__(self, drawn, lot_pages):
        self._turns = iter(drawn)
        self._lot_bytes = lot_pages * PAGE

    def decide(self, snapshot):
        wished = [each for each in next(self._turns) if each[0] < len(snapshot.processes)]
        return Plan(tuple(self._move(snapshot.processes[row], to, lots) for row, to, lots in wished))

    def _move(self, its, target, lots):
        own = replace(its, regions=its.regions.take(its.regions.movable))
        return move(own, sources=(1 - target,), targets=(target,), limit_bytes=lots * self._lot_bytes)


def look(at, processes, node_pages):
    """Give a look at processes on nodes that hold no more than that, and nothing else."""
    held = sum((each.regions.pages.sum(axis=0) for each in processes), np.zeros(2, np.int64))
    memory = node_memory(high_watermark=0, anon=dict(enumerate((held * PAGE).tolist())))
    total = np.full(2, node_pages * PAGE)
    memory = replace(memory, total_bytes=total, free_bytes=total - held * PAGE)
    jobs = [job(each, cgroup_id=each.key.pid) for each in processes]
    return tick(time_s=float(at), jobs=jobs, memory=memory)


def looks_of(demand, placed, node_pages):
    """Give a look a second at processes that keep their pages and run as ``demand`` says."""
    held = [regions(dict(enumerate(pages))) for pages in placed]
    return [
        look(
            at,
            [
                process(pid, regions=rows, cpu_s=cpu)
                for pid, (rows, cpu) in enumerate(zip(held, now, strict=True), 1)
            ],
            node_pages,
        )
        for at, now in enumerate(demand)
    ]


def working_s(cpu, pages):
    """Give the modelled time of one process at one look, with its pages lying so."""
    slower = LARGE.latency_ns / np.diag(LARGE.latency_ns)[:, None]
    used = np.array([cpu.get(0, 0.0), cpu.get(1, 0.0)])
    return used.sum() * (1 - SMALL.memory_share) + SMALL.memory_share * used @ slower @ pages / sum(pages)


def best_s(demand, placed, node_pages, pages_a_look):
    """Try every plan: which pages to move at each look, within the room on the nodes and the moving time of a look."""
    states = [
        state
        for state in itertools.product(*([(n - m, m) for m in range(n + 1)] for n in map(sum, placed)))
        if max(map(sum, zip(*state, strict=True))) <= node_pages
    ]
    least_s = {tuple(map(tuple, placed)): 0.0}
    for at, now in enumerate(demand):
        busy = [min(sum(cpu.values()), 1.0) if at else float(sum(cpu.values()) > 0) for cpu in now]
        reached_s = {}
        for (here, spent_s), there in itertools.product(least_s.items(), states):
            moved = [abs(a[0] - b[0]) for a, b in zip(here, there, strict=True)]
            if sum(moved) <= pages_a_look:
                worked_s = sum(map(working_s, now, here))
                total_s = spent_s + worked_s + PAGE_S * float(np.dot(moved, busy))
                reached_s[there] = min(total_s, reached_s.get(there, np.inf))
        least_s = reached_s
    return min(least_s.values())


@st.composite
def small_days(draw):
    """Draw one or two processes of a few pages, what they do for a few looks, and what a policy wishes."""
    lying = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)
    placed = draw(st.lists(lying, min_size=1, max_size=2))
    demand = draw(st.lists(st.tuples(*[cores] * len(placed)), min_size=1, max_size=4))
    return demand, placed, draw(st.lists(wishes, min_size=len(demand), max_size=len(demand)))


@given(small_days(), st.integers(0, 4), st.integers(1, 4))
def test_no_policy_is_better_than_the_best_plan_and_that_not_than_the_oracle(day, spare, pages_a_look):
    demand, placed, drawn = day
    node_pages = max(map(sum, zip(*placed, strict=True))) + spare
    looks = looks_of(demand, placed, node_pages)

    best = best_s(demand, placed, node_pages, pages_a_look)
    policies = {"hold": Hold(), "drawn": Drawn(drawn, 1)}
    found = scores(looks, policies, SMALL, deadline_s=pages_a_look * PAGE_S)

    assert all(best <= score.modelled_s + 1e-9 for score in found.values())
    assert found["hold"].least_s <= best + 1e-9


@given(small_days())
def test_with_room_and_moving_time_the_oracle_is_the_best_plan(day):
    demand, placed, _ = day
    every = sum(map(sum, placed))

    found = scores(looks_of(demand, placed, every), {"hold": Hold()}, SMALL)

    assert found["hold"].least_s == pytest.approx(best_s(demand, placed, every, every))


@st.composite
def busy_days(draw):
    """Draw looks at up to two processes that come and go, grow and shrink, and whose regions are shared for a while."""
    days = []
    for at in range(draw(st.integers(2, 5))):
        pids = sorted(draw(st.sets(st.integers(1, 2), min_size=1)))
        days.append(look(at, [draw(drawn_process(pid)) for pid in pids], ENOUGH))
    return days, draw(st.lists(wishes, min_size=len(days), max_size=len(days)))


@st.composite
def drawn_process(draw, pid):
    """Draw one process with up to two regions out of three."""
    slots = np.array(sorted(draw(st.sets(st.integers(0, 2), min_size=1, max_size=2))), np.uint64)
    rows = regions(*({draw(st.integers(0, 1)): draw(st.integers(1, 4)) * MANY} for _ in slots))
    start = rows.start[0] + slots * np.uint64(GIB * 8)
    shared = np.array([draw(st.integers(1, 2)) for _ in slots])
    rows = replace(rows, start=start, end=start + np.uint64(4 * MANY * PAGE), mapmax=shared)
    return process(pid, regions=rows, cpu_s=draw(cores))


@given(busy_days())
def test_no_policy_is_better_whoever_comes_grows_shares_or_goes(day):
    looks, drawn = day

    found = scores(looks, {"hold": Hold(), "drawn": Drawn(drawn, MANY)}, LARGE)

    assert found["drawn"].least_s <= found["drawn"].modelled_s * (1 + 1e-4)


def first(pages, **what):
    """Give the process that is looked at below."""
    return process(1, regions=replace(regions(pages), **what), cpu_s={1: 1.0})


def against_a_move_at_once(processes_by_look, node_pages=ENOUGH):
    """Give the oracle's time, and that of a policy which moves the first process to node 1 at the first look."""
    looks = [look(at, processes, node_pages) for at, processes in enumerate(processes_by_look)]
    to_node_1 = [[(0, 1, 1)], *([] for _ in looks[1:])]
    found = scores(looks, {"hold": Hold(), "moves": Drawn(to_node_1, MANY)}, LARGE)["moves"]
    return found.least_s, found.modelled_s


def test_who_was_away_finds_its_pages_where_they_were_brought():
    here = first({0: MANY})

    least_s, moved_s = against_a_move_at_once([[here], [], [here], [], [here]])

    assert least_s == pytest.approx(moved_s, rel=1e-4)


def test_pages_may_be_brought_home_before_they_are_shared():
    alone, shared = first({0: MANY}), first({0: MANY}, mapmax=np.array([2]))

    least_s, moved_s = against_a_move_at_once([[alone], *[[shared]] * 5])

    assert least_s == pytest.approx(moved_s, rel=1e-4)


def test_a_region_in_the_place_of_another_is_first_touched_anew():
    old, new = first({0: MANY}), replace(first({0: MANY}), threads=process(cpu_s={0: 1.0}).threads)
    away = np.uint64(8 * GIB)
    rows = replace(new.regions, start=new.regions.start + away, end=new.regions.end + away)
    new = replace(new, regions=rows)

    least_s, moved_s = against_a_move_at_once([*[[old]] * 5, *[[new]] * 5])

    assert least_s == pytest.approx(moved_s, rel=1e-4)


def test_pages_may_be_first_touched_where_others_made_room():
    asleep = replace(first({0: MANY}), threads=process().threads)
    small, grown = (process(2, pages={0: pages}, cpu_s={0: 1.0}) for pages in (MANY, 2 * MANY))

    least_s, moved_s = against_a_move_at_once([[asleep, small], *[[asleep, grown]] * 3], 2 * MANY)

    assert moved_s == pytest.approx(4.0)
    assert least_s <= moved_s
