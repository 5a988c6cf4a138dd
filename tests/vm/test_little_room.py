# SPDX-License-Identifier: Apache-2.0

"""Two jobs that have each other's memory change places through what little is free, a bit at a time."""

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from numad_py.kernel import node_sysfs
from tests.vm import fill, observer
from tests.vm.moving import PAGE
from tests.vm.running import PATIENCE_S, REST

JOB = ("late-bound", "--mb=100", REST)
FREE_SHARE = 0.05
HEADROOM_MB = 16  # instead of 64: a twentieth of these nodes is 51, and of a machine's some gigabytes
TOUCHED_MB = 4  # by the kernel meanwhile, for page tables and the like
LOCAL_SHARE = 0.9
COUNTERS = "pswpout", "pgscan_direct", "pgmigrate_success"


@pytest.fixture
def low_watermarks():
    """Let the kernel keep free what it would without khugepaged, which keeps some 70 MB of 2 GiB free for itself."""
    least = Path("/proc/sys/vm/min_free_kbytes")
    before = least.read_text()
    least.write_text("5792")  # 4 * sqrt(kB): init_per_zone_wmark_min() in mm/page_alloc.c
    yield
    least.write_text(before)


@pytest.fixture
def swap(tmp_path):
    with fill.swap(tmp_path):
        yield


def left_mb(node):
    """Give what is free, or has become page cache, which nobody here asked for."""
    return fill.free_mb(node) + fill.meminfo_mb(node, "FilePages")


def own_mb(daemon):
    """Give what the daemon and this test have on each node: what they come to need is no job's move."""
    found = observer.resident_bytes(daemon.process.pid, files=False)
    found += observer.resident_bytes(os.getpid(), files=False)
    return [found[node] / fill.MB for node in (0, 1)]


@contextlib.contextmanager
def least_free_mb():
    """Watch what is free; give the least that it was, by node."""
    free_mb = [fill.free_mb(node) for node in (0, 1)]
    cached_mb = [left_mb(node) - free_mb[node] for node in (0, 1)]
    done = threading.Event()

    def watch():
        while not done.wait(0.1):
            free_mb[:] = (min(free_mb[node], left_mb(node) - cached_mb[node]) for node in (0, 1))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield free_mb
    finally:
        done.set()
        watching.join()


@pytest.mark.usefixtures("low_watermarks", "swap")
def test_two_crossed_jobs_change_places_with_a_twentieth_of_each_node_free(tmp_path, job, daemon, workload):
    profile = tmp_path / "state" / "policies" / "tight.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(f"policy: threshold\nguard: {{headroom_mb: {HEADROOM_MB}, cache_share: 0}}\n")
    service = daemon(program="tests.vm.with_profiles", mode="act", profiles="[tight]")
    groups = job("there"), job("back")
    there, back = groups[0].start(*JOB), groups[1].start(*JOB, "--allocate-on=1", "--run-on=0")
    Path("/proc/sys/vm/drop_caches").write_text("1")
    for node in (0, 1):
        spare_mb = fill.free_mb(node) - FREE_SHARE * fill.meminfo_mb(node, "MemTotal")
        workload("bound", f"--mb={int(spare_mb)}", f"--allocate-on={node}", f"--run-on={node}")
    high = node_sysfs.watermarks(Path("/proc/zoneinfo").read_bytes())
    stays_mb = [high[node] * PAGE / fill.MB + HEADROOM_MB for node in (0, 1)]
    before, own_before_mb = {name: fill.vmstat(name) for name in COUNTERS}, own_mb(service)
    print(f"\nfree {[fill.free_mb(node) for node in (0, 1)]} MB, of which {stays_mb} have to stay")
    began_s = time.monotonic()

    with least_free_mb() as least:
        for one, group in zip((there, back), groups, strict=True):
            one.tell("bind")
            group.label("tight")
        observer.wait_for_share(there.pid, 1, LOCAL_SHARE, limit_s=PATIENCE_S)
        observer.wait_for_share(back.pid, 0, LOCAL_SHARE, limit_s=PATIENCE_S)

    own_mb_more = [max(now - then, 0) for now, then in zip(own_mb(service), own_before_mb, strict=True)]
    service.stop()
    grown = {name: fill.vmstat(name) - before[name] for name in COUNTERS}
    print(
        f"after {time.monotonic() - began_s:.0f} s: {grown}; least free {least} MB, ours {own_mb_more} MB more"
    )
    assert grown["pswpout"] == 0
    assert grown["pgscan_direct"] < 0.01 * grown["pgmigrate_success"]
    for free_mb, stay_mb, more_mb in zip(least, stays_mb, own_mb_more, strict=True):
        assert free_mb >= stay_mb - more_mb - TOUCHED_MB
