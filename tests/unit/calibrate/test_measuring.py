# SPDX-License-Identifier: Apache-2.0

"""Measurements run on the CPUs that they say, over all bytes that they count, and end."""

import os
import threading
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from numad_py.calibrate import bandwidth, latency, loops, memory
from numad_py.calibrate.figures import Effort, Quantity, figure
from numad_py.calibrate.latency import Chase
from numad_py.calibrate.threads import on_cpus
from numad_py.kernel import node_sysfs

CPUS = tuple(sorted(os.sched_getaffinity(0)))
TINY = Effort(repetitions=3, steps=100, window_s=0.005)


@pytest.fixture
def chase():
    chain = np.zeros(1000 * loops.LINE_WORDS, np.uint64)
    memory.link(chain, np.random.default_rng(1))
    return Chase(chain)


def test_work_is_done_on_its_cpu_and_nobody_else_is_pinned():
    on = on_cpus({cpu: lambda: (os.sched_getaffinity(0), threading.get_native_id()) for cpu in CPUS})

    assert {cpu: mask for cpu, (mask, _) in on.items()} == {cpu: {cpu} for cpu in CPUS}
    assert os.sched_getaffinity(0) == set(CPUS)
    assert os.getpid() not in {thread for _, thread in on.values()}


def test_a_cpu_that_is_not_there_is_an_error():
    with pytest.raises(OSError, match="Invalid argument"):
        on_cpus({1 << 15: lambda: None})


def test_an_idle_chase_goes_on_where_it_stopped(chase):
    latency.idle(CPUS[0], chase, TINY)
    once = chase.at

    latency.idle(CPUS[0], chase, TINY)

    assert once == loops.chase(chase.chain, 0, 400)
    assert chase.at == loops.chase(chase.chain, 0, 800)


def test_counters_can_be_read_around_a_chase_in_its_own_thread(chase):
    seen = []

    @contextmanager
    def around():
        seen.append((os.sched_getaffinity(0), chase.at))
        yield
        seen.append((os.sched_getaffinity(0), chase.at))

    latency.idle(CPUS[-1], chase, TINY, around)

    steps = partial(loops.chase, chase.chain, 0)
    assert seen == [({CPUS[-1]}, steps(100)), ({CPUS[-1]}, steps(400))]


@pytest.mark.skipif(not CPUS[1:], reason="needs two CPUs")
@pytest.mark.parametrize("pause", [0, 100])
def test_a_loaded_chase_ends_with_its_load(chase, pause):
    stream, others = np.ones(loops.BLOCK_WORDS * 10, np.uint64), threading.active_count()

    load = latency.loaded(CPUS[0], chase, {CPUS[1]: stream}, pause, TINY)

    assert load.gb_per_s > 0
    assert load.latency_ns.median > 0
    assert threading.active_count() <= others


@pytest.mark.skipif(not CPUS[1:], reason="needs two CPUs")
def test_a_chase_that_fails_ends_its_load_too(chase):
    stream, others = np.ones(loops.BLOCK_WORDS, np.uint64), threading.active_count()

    with pytest.raises(ZeroDivisionError):
        latency.loaded(CPUS[0], chase, {CPUS[1]: stream}, 0, Effort(repetitions=1, steps=0, window_s=0))

    assert threading.active_count() <= others


def test_words_are_shared_out_in_whole_lines_and_none_is_left():
    words = np.arange(1001 * loops.LINE_WORDS, dtype=np.uint64)

    shares = bandwidth.share_out(words, (3, 5, 9))

    assert (np.concatenate(list(shares.values())) == words).all()
    assert all(share.size % loops.LINE_WORDS == 0 for share in shares.values())


def test_a_rate_counts_the_bytes_of_whole_rounds():
    words = np.ones(1000, np.uint64)
    turns = iter([False] * 5 + [True])
    seen = []

    rate = bandwidth.rate(seen.append, words, until=lambda _: next(turns))

    assert [chunk.size for chunk in seen] == [1000] * 5
    assert rate > 0


@pytest.mark.parametrize("operation", [Quantity.READ, Quantity.WRITE, Quantity.COPY])
def test_bandwidth_is_told_for_every_cpu_and_repetition(operation):
    words = np.ones(1 << 16, np.uint64)

    found = bandwidth.repeated(bandwidth.share_out(words, CPUS), operation, TINY)

    assert [set(by_cpu) for by_cpu in found] == [set(CPUS)] * 3
    assert all(rate > 0 for by_cpu in found for rate in by_cpu.values())


def test_copying_touches_one_half_for_reading_and_one_for_writing():
    words = np.arange(1000, dtype=np.uint64)

    bandwidth.LOOPS[Quantity.COPY](words)

    assert (words == np.tile(np.arange(500, 1000), 2)).all()


def test_memory_of_a_node_is_linked_and_there():
    nodes = node_sysfs.read_topology().node_ids

    words = memory.on_node(nodes[-1], chain_bytes=4 << 20, stream_bytes=2 << 20, bound=len(nodes) > 1)

    assert (words.chain.nbytes, words.stream.nbytes) == (4 << 20, 2 << 20)
    assert len(np.unique(words.chain[:: loops.LINE_WORDS])) == words.chain.size // loops.LINE_WORDS
    assert 0 <= words.huge_share <= 1


def test_a_figure_is_the_median_and_the_middle_half_over_it():
    found = figure([90.0, 100.0, 100.0, 110.0, 1000.0])

    assert (found.median, found.spread_share) == (100.0, pytest.approx(0.1))
