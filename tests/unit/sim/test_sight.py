# SPDX-License-Identifier: Apache-2.0

"""A policy sees the simulated machine as late and as roughly as a sensor within its budget would."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Mempolicy, PlacementSource
from numad_py.policies.hold import Hold
from numad_py.sim.cost import default_prices
from numad_py.sim.replay import scores
from numad_py.sim.sight import Acuity, Sight
from tests import two_nodes
from tests.builders import MIB, TWO_NODES, process, regions, snapshot
from tests.unit.sim.test_demand import Asks

EXACT = Acuity(processes=1, vma_s=0.0, first_s=(2.0, 2.0), changed_s=(3.0, 3.0), cpu_s=(2.0, 2.0))
NONE = frozenset()


def seen(sight, time_s, one, moved=NONE):
    """Give what is seen of one process; None where nothing is known of it."""
    found = sight.see(snapshot(time_s, processes=[one]), moved).processes
    return found[0] if found else None


def known(one, at=10.0, acuity=EXACT):
    """Give a sight that has just read this process."""
    sight = Sight(acuity)
    assert seen(sight, at - acuity.first_s[0], one) is None
    assert seen(sight, at, one) is not None
    return sight


def grown(one, pages):
    return replace(one, regions=regions(pages))


def test_nothing_is_known_of_a_new_process_for_a_while():
    sight, one = Sight(EXACT), process(pages={0: 1})

    assert [seen(sight, at, one) is not None for at in (0.0, 1.9, 2.0)] == [False, False, True]


def test_what_changed_is_read_again_after_its_time():
    one = process(pages={0: 1})
    sight = known(one)
    later = [seen(sight, at, grown(one, {0: 5})) for at in (11.0, 12.9, 13.0)]

    assert [int(each.regions.pages.sum()) for each in later] == [1, 1, 5]
    assert [each.placement_age_s for each in later] == pytest.approx([1.0, 2.9, 0.0])


def test_what_was_moved_is_read_again_at_once():
    one = process(pages={0: 1})
    sight = known(one)

    assert seen(sight, 10.5, grown(one, {1: 1}), {one.key}).regions.pages.tolist() == [[0, 1]]


def test_what_did_not_change_is_as_of_now():
    one = process(pages={0: 1})
    sight = known(one)

    assert seen(sight, 500.0, one).placement_age_s == 0.0


def test_a_large_process_rests_for_as_long_as_reading_it_kept_it_from_its_memory():
    acuity = replace(EXACT, walk_s=1e-6, longest_walk_s=1.0)
    one = process(pages={0: 10_000})  # 10 ms: 20 s
    sight = known(one, acuity=acuity)

    rested = [seen(sight, at, grown(one, {0: 5})).regions.pages.sum() for at in (29.9, 30.0)]

    assert rested == [10_000, 5]


def test_a_process_of_many_vmas_rests_for_longer():
    acuity = replace(EXACT, vma_s=1e-2)  # 20 s for each
    one = process(pages={0: 10})
    sight = known(one, acuity=acuity)

    rested = [seen(sight, at, grown(one, {0: 5})).regions.pages.sum() for at in (29.9, 30.1)]

    assert rested == [10, 5]


def test_among_few_processes_each_is_known_sooner():
    one = process(pages={0: 1})
    sight = Sight(replace(EXACT, processes=4))

    assert [seen(sight, at, one) is not None for at in (0.0, 0.4, 0.5)] == [False, False, True]


def test_who_runs_is_read_now_and_then_and_who_sleeps_is_known_at_once():
    one = process(pages={0: 1}, cpu_s={0: 1.0})
    sight = known(one)
    elsewhere, asleep = (replace(one, threads=process(cpu_s=cpu_s).threads) for cpu_s in ({1: 1.0}, {}))

    later = [seen(sight, at, elsewhere) for at in (11.0, 12.0)]

    assert [each.threads.cpu.tolist() for each in later] == [
        one.threads.cpu.tolist(),
        elsewhere.threads.cpu.tolist(),
    ]
    assert [each.cpu_age_s for each in later] == [1.0, 0.0]
    assert not len(seen(sight, 12.1, asleep).threads.tid)


@given(st.integers(1, 100_000), st.integers(0, 100_000), st.integers(0, 2**32))
def test_a_process_too_large_to_be_walked_even_once_is_sampled_and_its_mempolicies_are_unknown(
    here, there, seed
):
    acuity = replace(EXACT, seed=seed, walk_s=1.0)
    one = process(pages={0: here, 1: there})
    sampled = seen(known(one, acuity=acuity), 11.0, one)

    assert sampled.placement_source is PlacementSource.PAGE_SAMPLE
    assert sampled.regions.pages.sum() == here + there
    assert sampled.regions.mempolicy.tolist() == [int(Mempolicy.UNKNOWN)]
    off = abs(sampled.regions.pages[0, 0] - here) / (here + there)
    assert off <= 4 * sampled.placement_error_share + 1 / (here + there)


def test_mempolicies_of_a_sample_are_known_where_one_walk_could_tell_them():
    acuity = replace(EXACT, walk_s=0.01)
    one = process(pages={0: 10})

    assert seen(known(one, acuity=acuity), 11.0, one).regions.mempolicy.tolist() == [int(Mempolicy.DEFAULT)]


def test_mempolicies_of_what_is_larger_are_known_once_it_has_mapped_nothing_for_a_while():
    acuity = replace(EXACT, walk_s=0.1, quiet_s=20.0)
    one, larger = (process(pages={0: count}) for count in (20, 21))
    at = (10.0, 27.9, 28.0)

    known_of = [
        [seen(sight, each, which).regions.mempolicy[0] for each in at]
        for which, sight in ((one, known(one, acuity=acuity)), (larger, known(larger, acuity=acuity)))
    ]

    assert known_of == [[Mempolicy.UNKNOWN, Mempolicy.UNKNOWN, Mempolicy.DEFAULT], [Mempolicy.UNKNOWN] * 3]


def test_a_process_that_maps_is_not_quiet():
    acuity = replace(EXACT, walk_s=0.1, quiet_s=20.0)
    one = process(pages={0: 20})
    sight = known(one, acuity=acuity)
    mapped = replace(one, regions=replace(one.regions, end=one.regions.end + np.uint64(4096)))

    later = [seen(sight, at, mapped).regions.mempolicy[0] for at in (20.0, 30.0, 40.0)]

    assert later == [Mempolicy.UNKNOWN, Mempolicy.UNKNOWN, Mempolicy.DEFAULT]


def test_the_same_seed_shows_the_same_and_another_another():
    one, looks = process(pages={0: 1}), np.arange(0, 8, 0.05)

    def first_s(seed):
        sight = Sight(Acuity(seed, processes=1))
        return next(at for at in looks.tolist() if seen(sight, at, one))

    assert first_s(1) == first_s(1)
    assert len({first_s(seed) for seed in range(5)}) > 1


def test_scores_are_of_the_machine_as_it_is():
    prices, policies = default_prices(TWO_NODES), {"hold": Hold(), "asks": Asks()}

    perfect, sighted = (
        scores(two_nodes.ticks(), policies, prices, acuity=acuity) for acuity in ({}, {"asks": Acuity()})
    )

    assert sighted["hold"] == perfect["hold"]
    assert sighted["asks"].modelled_s != perfect["asks"].modelled_s
    assert sighted["asks"].moved_bytes >= MIB
