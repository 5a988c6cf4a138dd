# SPDX-License-Identifier: Apache-2.0

"""Where two of four nodes have no CPUs, only idle memory that makes room is put there; what lies there comes home."""

import subprocess
import time
from pathlib import Path

import pytest

from numad_py.model import Reason
from tests.vm import fill, observer
from tests.vm.moving import MB, key_of
from tests.vm.running import PATIENCE_S, REST, SMALL

pytestmark = pytest.mark.guest("four-nodes")

MOSTLY = 0.80  # of a small job: Python itself has some 5 MiB where it first ran
UNEVEN = 0.12  # the profile stops at 0.10 where a turn ends there, of what can move
TIERS = (2, 3)
DEMOTES = Path("/sys/kernel/mm/numa/demotion_enabled")


def on_tiers(pid):
    """Give the bytes of anonymous memory on each node without CPUs; the kernel itself may put a little there."""
    found = observer.resident_bytes(pid, files=False)
    return [found[node] for node in TIERS]


def moves_of(service, pid):
    """Give every move of a process that the daemon made, having ended it."""
    key = key_of(pid)
    service.stop()
    return [(move, outcome) for move, outcome in service.outcomes() if move.process == key]


def late_bound(group, *options):
    workload = group.start("late-bound", *options)
    workload.tell("bind")
    return workload


def test_a_late_bound_job_goes_to_the_node_it_runs_on_and_nowhere_else(job, daemon):
    service = daemon(mode="act")
    group = job()
    workload = late_bound(group, "--mb=64")
    assert observer.anonymous_share(workload.pid, 0) > MOSTLY
    before = on_tiers(workload.pid)

    group.label("default")
    observer.wait_for_share(workload.pid, 1, MOSTLY, limit_s=PATIENCE_S)

    assert all(now <= then for now, then in zip(on_tiers(workload.pid), before, strict=True))
    assert {move.targets for move, _ in moves_of(service, workload.pid)} == {(1,)}


def put_on_tier(workload):
    """Bring the memory of a job to a node without CPUs; give what is there now."""
    subprocess.run(["migratepages", str(workload.pid), "0", "2"], check=True)
    there = on_tiers(workload.pid)
    assert there[0] >= 32 * MB
    return there


def test_memory_that_lies_on_a_node_without_cpus_comes_home(job, daemon):
    daemon(mode="act")
    group = job()
    workload = late_bound(group, *SMALL)
    put_on_tier(workload)

    group.label("default")

    observer.wait_for_share(workload.pid, 1, MOSTLY, limit_s=PATIENCE_S)


# Free on the target, of which the kernel and the guard keep most, and what is to come there.
FREE_MB, BUSY_MB = 90, 64
MAKING_ROOM = (
    "policy: threshold\nparameters: {makes_room_after_s: 3}\nguard: {headroom_mb: 16, cache_share: 0}\n"
)


def test_an_idle_job_makes_room_on_a_node_without_cpus_and_no_more_than_was_missing(
    tmp_path, job, daemon, workload
):
    profile = tmp_path / "state" / "policies" / "making-room.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(MAKING_ROOM)
    service = daemon(program="tests.vm.with_profiles", mode="act", profiles="[making-room]")
    busy, idle = job("busy"), job("idle")
    sleeper = idle.start("late-bound", f"--mb={BUSY_MB}", "--allocate-on=1")  # which is never told to run
    works = busy.start("late-bound", f"--mb={BUSY_MB}", REST)
    Path("/proc/sys/vm/drop_caches").write_text("1")
    workload("bound", f"--mb={int(fill.free_mb(1)) - FREE_MB}", "--allocate-on=1")
    works.tell("bind")

    idle.label("making-room")
    busy.label("making-room")
    observer.wait_for_share(works.pid, 1, MOSTLY, limit_s=PATIENCE_S)

    made = moves_of(service, sleeper.pid)
    assert {(move.reason, move.sources) for move, _ in made} == {(Reason.MAKES_ROOM, (1,))}
    assert {move.targets for move, _ in made} <= {(2,), (3,)}
    moved_mb = sum(outcome.moved_bytes for _, outcome in made) / MB
    assert 0 < moved_mb <= sum(observer.resident_bytes(works.pid).values()) / MB
    assert sum(on_tiers(sleeper.pid)) >= 0.9 * moved_mb * MB


@pytest.fixture
def demoting():
    """Have the kernel demote to nodes without CPUs, for one test."""
    DEMOTES.write_text("1")
    yield
    DEMOTES.write_text("0")


@pytest.mark.usefixtures("demoting")
def test_what_the_kernel_may_have_demoted_stays_there(job, daemon):
    service = daemon(mode="act")
    chosen, other = job("chosen"), job("other")
    stays, goes = late_bound(chosen, *SMALL), late_bound(other, *SMALL)
    before = put_on_tier(stays)

    chosen.label("default")
    other.label("default")
    observer.wait_for_share(goes.pid, 1, MOSTLY, limit_s=PATIENCE_S)

    assert on_tiers(stays.pid) == before
    assert all(2 not in (*move.sources, *move.targets) for move, _ in moves_of(service, stays.pid))


def test_interleaving_spreads_over_the_nodes_with_cpus_alone(job, daemon):
    service = daemon(mode="act")
    group = job()
    workload = late_bound(group, "--mb=128")
    before = on_tiers(workload.pid)

    group.label("interleave")
    until_s = time.monotonic() + PATIENCE_S
    while not abs(observer.anonymous_share(workload.pid, 0) - 0.5) < UNEVEN:
        assert time.monotonic() < until_s, observer.resident_bytes(workload.pid)
        time.sleep(0.2)

    assert on_tiers(workload.pid) == before
    assert observer.anonymous_share(workload.pid, 1) > 0.5 - UNEVEN
    assert {move.targets for move, _ in moves_of(service, workload.pid)} == {(0, 1)}
