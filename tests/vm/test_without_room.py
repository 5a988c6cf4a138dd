# SPDX-License-Identifier: Apache-2.0

"""On full nodes a job is repaired at the expense of clean, unused cache, and of nothing else."""

import time

import pytest

from numad_py.model import Ending
from tests.vm import fill, observer
from tests.vm.moving import MB, PAGE, act, move_of, pages_on
from tests.vm.running import PATIENCE_S
from tests.vm.test_repair import late_bound

FULL_MB = 90  # left free: more than the high watermark, so that kswapd sleeps, less than with the profile's headroom
LOCAL_SHARE = 0.95


@pytest.fixture
def mount(tmp_path):
    with fill.disk(tmp_path) as folder:
        yield folder


@pytest.fixture
def swap(tmp_path):
    with fill.swap(tmp_path):
        yield


def test_with_both_nodes_full_of_page_cache_the_job_settles_and_a_file_in_use_stays(
    mount, job, daemon, workload, promise
):
    daemon(mode="act")
    group = job()
    late = late_bound(group)
    in_use = mount / "in-use"
    in_use.write_bytes(b"1" * (50 * fill.MB))
    reader = workload("reader", f"--file={in_use}", "--mb=1")
    reader.tell("bind")
    for node in (0, 1):
        fill.clean_cache(node, mount, 900)
    assert max(fill.free_mb(node) for node in (0, 1)) < 2 * FULL_MB

    labelled_s = time.monotonic()
    group.label("default")
    settled_s = observer.wait_for_share(late.pid, 1, LOCAL_SHARE, limit_s=PATIENCE_S) - labelled_s

    print(f"\nthe file in use is {fill.resident_share(in_use):.1%} resident", end="")
    promise("settled, s after the label", settled_s, at_most=30)
    assert fill.resident_share(in_use) >= 0.95


@pytest.mark.usefixtures("swap")
def test_a_target_full_of_dirty_cache_is_left_alone(mount, job, daemon):
    service = daemon(mode="act")
    group = job()
    late = late_bound(group)
    with fill.dirty_cache(1, mount, int(fill.free_mb(1)) - FULL_MB):
        swapped, dirty_mb = fill.vmstat("pswpout"), fill.meminfo_mb(1, "Dirty")

        group.label("default")
        service.wait_for("held back")
        time.sleep(3)

        assert fill.vmstat("pswpout") == swapped
        assert fill.meminfo_mb(1, "Dirty") > 0.9 * dirty_mb
        assert observer.anonymous_share(late.pid, 1) < 0.5


@pytest.mark.usefixtures("swap")
def test_a_target_full_of_anonymous_memory_is_left_alone(job, daemon, workload):
    service = daemon(mode="act")
    group = job()
    late = late_bound(group)
    workload("bound", f"--mb={int(fill.free_mb(1)) - FULL_MB}", "--allocate-on=1")
    swapped = fill.vmstat("pswpout")

    group.label("default")
    service.wait_for("held back")
    time.sleep(3)

    assert fill.vmstat("pswpout") == swapped
    assert observer.anonymous_share(late.pid, 1) < 0.5


@pytest.mark.usefixtures("swap")
def test_without_a_guard_the_batch_itself_stops_before_anything_is_swapped(workload):
    late = workload("late-bound", "--mb=200")
    workload("bound", f"--mb={int(fill.free_mb(1)) - FULL_MB}", "--allocate-on=1")
    swapped, free_mb = fill.vmstat("pswpout"), fill.free_mb(1)

    outcome = act(move_of(late))

    assert fill.vmstat("pswpout") == swapped
    assert outcome.ending is Ending.NO_ROOM
    assert outcome.detail == "node 1 is full of what is in use"
    assert outcome.moved_bytes < free_mb * MB
    assert len(pages_on(late, 1)) == outcome.moved_bytes // PAGE
