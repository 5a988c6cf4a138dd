# SPDX-License-Identifier: Apache-2.0

"""A walk for mempolicies is due where too much is untold, or long ago, and the process has rested from the last one."""

from dataclasses import replace

from numad_py.kernel import maps, numa_maps, proc_stat, proc_status
from numad_py.model import PlacementSource, ProcessKey, Regions
from numad_py.sense.known import LEARNT_S, LOCKED_SHARE, QUIET_S, UNTOLD_SHARE, Known
from numad_py.sense.learnt import learn
from numad_py.sense.mapped import mapped
from numad_py.sense.placement import Placement
from tests.fake_root import stat

KEY = ProcessKey(100, 7)
WALK_S, LOCKED_S, COST_S = 0.1, 0.15, 0.2  # estimated, measured, and the CPU time of all of it
NOTHING = learn(numa_maps.parse(b"", (0, 1), 4096), maps.parse(b""), 4096)
STATUS = proc_status.Status((0, 1), (0, 1), rss_anon_bytes=4096, uid=0)


def placement(source, *, untold_share=0.0, walk_s=WALK_S, quiet_walk_s=0.0, learnt=None):
    regions, vmas = Regions.empty(2), maps.parse(b"")
    others = mapped(regions, vmas)
    return Placement(
        regions,
        STATUS,
        source,
        0.0,
        COST_S,
        LOCKED_S,
        vmas,
        others,
        learnt,
        untold_share,
        walk_s,
        quiet_walk_s or walk_s,
    )


def sample(untold_share, **walks_s):
    return placement(PlacementSource.PAGE_SAMPLE, untold_share=untold_share, **walks_s)


def known():
    return Known(KEY, proc_stat.parse(stat(100).encode()), 1, 0.0)


def walked_at(now_s):
    """Give a process that was walked then."""
    it = known()
    it.begin_walk(WALK_S / 2, now_s)
    it.remember(placement(PlacementSource.NUMA_MAPS, learnt=NOTHING), now_s)
    return it


def test_the_first_walk_is_due_at_once():
    it = known()
    it.remember(sample(1.0), 1.0)

    assert it.walk_s(1.0) == WALK_S


def test_no_walk_is_due_where_none_is_allowed_or_nothing_was_read():
    it = known()
    before = it.walk_s(1.0)
    it.remember(sample(1.0, walk_s=0.0), 1.0)

    assert (before, it.walk_s(1.0)) == (0.0, 0.0)


def test_a_long_walk_is_due_once_the_size_of_the_address_space_has_been_the_same_for_a_while():
    it = known()
    it.remember(sample(1.0, walk_s=0.0, quiet_walk_s=WALK_S), 1.0)
    it.glance(replace(it.stat, vsize_bytes=it.stat.vsize_bytes + 4096), 5.0)
    it.glance(it.stat, 6.0)

    assert (it.walk_s(4 + QUIET_S), it.walk_s(5 + QUIET_S)) == (0.0, WALK_S)


def test_a_new_process_is_not_taken_for_a_quiet_one():
    it = known()
    it.remember(sample(1.0, walk_s=0.0, quiet_walk_s=WALK_S), 1.0)

    assert (it.is_quiet(QUIET_S - 1), it.walk_s(QUIET_S - 1), it.is_quiet(QUIET_S)) == (False, 0.0, True)


def test_another_walk_waits_until_the_process_has_rested_from_the_last():
    it = walked_at(10.0)
    it.remember(sample(1.0), 11.0)

    assert it.walk_s(9 + LOCKED_S / LOCKED_SHARE) == 0.0
    assert it.walk_s(11 + LOCKED_S / LOCKED_SHARE) == WALK_S


def test_a_walk_that_never_ended_is_not_begun_again_at_once():
    it = known()
    it.remember(sample(1.0), 1.0)
    it.begin_walk(WALK_S, 2.0)

    assert it.walk_s(1 + WALK_S / LOCKED_SHARE) == 0.0
    assert it.walk_s(3 + WALK_S / LOCKED_SHARE) == WALK_S


def test_where_enough_is_told_mempolicies_are_asked_again_after_an_hour():
    it = walked_at(10.0)
    it.remember(sample(UNTOLD_SHARE), 11.0)

    assert it.walk_s(10 + LEARNT_S - 1) == 0.0
    assert it.walk_s(10 + LEARNT_S) == WALK_S


def test_a_process_that_stands_still_and_is_never_sampled_is_asked_again_too():
    it = walked_at(10.0)

    assert (it.walk_s(9 + LEARNT_S), it.walk_s(10 + LEARNT_S)) == (0.0, WALK_S)


def test_the_sample_after_a_walk_need_not_wait_for_as_long_and_is_not_thought_as_dear():
    it = walked_at(10.0)
    of_the_walk = (it.rested(1.0), it.placement_cost_s(0.5 * COST_S))
    it.remember(sample(0.0), 11.0)

    assert of_the_walk == (True, 0.5 * COST_S)
    assert (it.rested(1.0), it.rested(LOCKED_S / LOCKED_SHARE)) == (False, True)
    assert it.placement_cost_s(0.5 * COST_S) == COST_S
