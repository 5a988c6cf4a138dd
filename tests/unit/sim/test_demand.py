# SPDX-License-Identifier: Apache-2.0

"""A replay lives what was asked of the machine; what the recorded policy did about it changes no figure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py import guard, trace
from numad_py.model import Mempolicy, Plan, RegionKind
from numad_py.policies.hold import Hold
from numad_py.policies.interleave import Interleave, InterleaveParameters
from numad_py.policies.threshold import Threshold
from numad_py.roles import Policy
from numad_py.sim import cost
from numad_py.sim.cost import default_prices
from numad_py.sim.replay import replay, scores
from tests.builders import GIB, MIB, TWO_NODES, job, move, node_memory, process, regions, tick

PAGE = 4096
PRICES = default_prices(TWO_NODES)
SHIPPED = sorted((Path(__file__).parents[3] / "sim" / "traces").glob("*.jsonl*"))
KINDS = st.sampled_from([RegionKind.ANON, RegionKind.FILE])
POLICIES = st.sampled_from([int(each) for each in Mempolicy])
sizes = st.integers(0, 60)


class Asks(Policy):
    """Wishes at every tick to bring every process's pages to node 1."""

    def decide(self, snapshot):
        return Plan(tuple(map(move, snapshot.processes)))


@st.composite
def drawn_process(draw, pid):
    """Draw one process with up to three regions in fixed places, some of them huge, shared, bound, or files."""
    places = sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=3)))
    pages = np.array([[draw(sizes), draw(sizes)] for _ in places], np.int64)
    drawn = regions(*({0: 1} for _ in places))
    start = (0x5555_0000_0000 + np.array(places, np.int64) * GIB).astype(np.uint64)
    page_bytes = np.array([2 * MIB if place == 3 else PAGE for place in places], np.int64)
    return process(
        pid,
        regions=replace(
            drawn,
            start=start,
            end=start + (np.maximum(pages.sum(axis=1), 1) * page_bytes).astype(np.uint64),
            page_bytes=page_bytes,
            mapmax=np.array([draw(st.integers(1, 2)) for _ in places], np.int64),
            mempolicy=np.array([draw(POLICIES) for _ in places], np.int64),
            kind=np.array([int(draw(KINDS)) for _ in places], np.int64),
            anon_pages=pages.sum(axis=1),
            pages=pages,
        ),
        cpu_s=draw(st.sampled_from([{}, {0: 1.0}, {1: 1.0}, {0: 0.3, 1: 0.6}])),
    )


@st.composite
def drawn_run(draw):
    """Draw up to five looks at one to two processes that come, change and go."""
    run = []
    for at in range(draw(st.integers(1, 5))):
        pids = sorted(draw(st.sets(st.integers(1, 2), max_size=2)))
        free = {node: draw(st.integers(0, 256)) * MIB for node in (0, 1)}
        memory = node_memory(
            free=free, file={0: 64 * MIB, 1: 64 * MIB}, inactive_file={0: 32 * MIB, 1: 32 * MIB}
        )
        processes = [draw(drawn_process(pid)) for pid in pids]
        jobs = [job(each, cgroup_id=each.key.pid) for each in processes]
        run.append(tick(time_s=float(at), jobs=jobs, memory=memory, moves=list(map(move, processes))))
    return run


def without_later_placement(run, shuffle):
    """Permute every process's page nodes after its first look, and drop plans and outcomes."""
    seen, changed = set(), []
    for one in run:
        jobs = tuple(
            replace(group, processes=tuple(shuffled(each, shuffle, seen) for each in group.processes))
            for group in one.snapshot.jobs
        )
        changed.append(tick(replace(one.snapshot, jobs=jobs)))
    return changed


def shuffled(seen_now, shuffle, seen):
    """Permute a process's page nodes, unless it was never seen before."""
    pages = seen_now.regions.pages
    if seen_now.key in seen:
        pages = np.array([shuffle(row.tolist()) for row in pages], np.int64).reshape(pages.shape)
    seen.add(seen_now.key)
    return replace(seen_now, regions=replace(seen_now.regions, pages=pages))


def contenders():
    """Make each policy anew, within the guard of the daemon."""
    limits = guard.Limits(headroom_mb=0.0)
    return {
        "hold": Hold(),
        "threshold": guard.Guard(Threshold(), limits),
        "interleave": guard.Guard(Interleave(InterleaveParameters(patience=1, least_mb=0.0)), limits),
        "asks": Asks(),
    }


@given(drawn_run(), st.randoms(use_true_random=False))
def test_no_figure_depends_on_where_the_recorded_policy_put_pages(run, random):
    as_recorded = scores(run, contenders(), PRICES)

    permuted = scores(
        without_later_placement(run, lambda row: random.sample(row, len(row))), contenders(), PRICES
    )

    assert permuted == as_recorded


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_figure_of_a_shipped_trace_depends_on_it_either(path):
    header, ticks = trace.read(path)
    run, prices, random = list(ticks), cost.prices_for(header), np.random.default_rng(1)

    permuted = without_later_placement(run, random.permutation)

    assert any(one.plan.moves for one in run) == ("default" in path.name)
    assert scores(permuted, contenders(), prices) == scores(run, contenders(), prices)


@given(drawn_run())
def test_every_replayed_look_holds_the_recorded_demand(run):
    for recorded, turn in zip(run, replay(run, contenders(), PRICES), strict=True):
        for replayed in turn.values():
            assert (replayed.snapshot.memory.free_bytes >= 0).all()
            for was, now in zip(recorded.snapshot.jobs, replayed.snapshot.jobs, strict=True):
                held, wanted = now.processes[0].regions, was.processes[0].regions
                assert (held.pages >= 0).all()
                assert held.pages.sum(axis=1).tolist() == wanted.pages.sum(axis=1).tolist()
                assert not held.pages.flags.writeable


@given(drawn_run())
def test_a_replay_gives_the_same_figures_every_time(run):
    assert scores(run, contenders(), PRICES) == scores(run, contenders(), PRICES)
