# SPDX-License-Identifier: Apache-2.0

"""The service wires sensor, profiles and actuator for one machine, and tells of labels that do not count."""

import io

import pytest
import structlog

from numad_py import trace
from numad_py.daemon import log, service
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.service import NoCgroupError, Service
from numad_py.model import Ending
from numad_py.policies.hold import Hold
from numad_py.profile import ProfileError
from tests.builders import TWO_NODES, snapshot, topology
from tests.builders import tick as tick_of
from tests.fake_root import FakeRoot

HEADER = trace.Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9)
QUICK = Config(period_s=0.1)


@pytest.fixture
def fake(tmp_path):
    return FakeRoot(tmp_path)


@pytest.fixture
def stream():
    stream = io.StringIO()
    log.configure(stream, foreground=False)
    yield stream
    structlog.reset_defaults()


def lines(stream):
    """Give what was said, but for what cannot be seen on this machine."""
    return [line for line in stream.getvalue().splitlines() if 'event="not seen"' not in line]


def turns(running, count):
    """Give so many turns."""
    found = []
    for tick in running.ticks():
        found.append(tick)
        if len(found) == count:
            running.clock.stop()
    return found


def test_a_host_without_cgroup_v2_is_refused_in_a_sentence(fake):
    fake.write("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")

    with pytest.raises(NoCgroupError, match=r"no cgroup v2 .* mount one: mount -t cgroup2"):
        Service(QUICK, root=fake.root)


def test_an_unknown_profile_is_refused(fake):
    with pytest.raises(ProfileError, match="there is no profile 'nonsense'"):
        Service(Config(profiles=("nonsense",)), root=fake.root)


@pytest.mark.parametrize(
    ("mode", "dry_run", "nodes", "acts"),
    [
        (Mode.ACT, False, 2, True),
        (Mode.ACT, True, 2, False),
        (Mode.OBSERVE, False, 2, False),
        (Mode.ACT, False, 1, False),
    ],
)
def test_it_acts_only_where_it_was_told_to_and_there_is_somewhere_to_move_to(
    tmp_path, mode, dry_run, nodes, acts
):
    fake = FakeRoot(tmp_path, nodes)

    assert Service(Config(mode=mode), dry_run=dry_run, root=fake.root).acts == acts


def test_a_late_bound_job_would_be_moved(fake, stream):
    running = Service(QUICK, root=fake.root)
    ticks = []
    for second, tick in enumerate(running.ticks(), 1):
        ticks.append(tick)
        fake.process(100, pages={0: 5000}, ticks={100: (2, 100 * second)})
        fake.job(pids=[100])
        if tick.plan.moves or second == 20:
            running.clock.stop()

    (move,), (outcome,) = ticks[-1].plan.moves, ticks[-1].outcomes
    assert (move.sources, move.targets, outcome.ending) == ((0,), (1,), Ending.DRY_RUN)
    assert 'event="would move" pid=100 comm=python3 job=/job source=0 target=1' in stream.getvalue()


def test_a_label_with_a_profile_that_is_not_allowed_is_told(fake, stream):
    fake.job(label="interleave")

    turns(Service(Config(period_s=0.1, profiles=("hold",)), root=fake.root), 2)

    assert lines(stream) == [
        'level=warning event="label ignored" job=/job why="the profile interleave is not among those allowed"'
    ]


def test_a_policy_that_stands_in_for_the_profiles_takes_every_label(fake, stream):
    fake.job(label="anything")

    (tick,) = turns(Service(QUICK, policy=Hold(), root=fake.root), 1)

    assert [job.profile for job in tick.snapshot.jobs] == ["anything"]
    assert lines(stream) == []


def test_a_label_that_counts_for_nobody_is_told(fake, stream):
    fake.job(label="a b")

    turns(Service(QUICK, root=fake.root), 1)

    assert 'job=/job why="not the name of a profile, nor off"' in stream.getvalue()


def test_a_mount_given_stands_for_the_whole_tree(fake):
    fake.process(100)
    fake.job("other", pids=[])
    (fake.mount / "mine").mkdir()
    mine = fake.job("mine/job", pids=[100])

    (tick,) = turns(Service(QUICK, mount=mine.parent, root=fake.root), 1)

    assert [job.path for job in tick.snapshot.jobs] == ["/job"]


def test_the_header_of_a_trace_describes_the_machine(fake):
    header = Service(QUICK, root=fake.root).header()

    assert header.boot_id == "0d5f8b7e-0000-4000-8000-000000000000"
    assert header.topology.node_ids == (0, 1)
    assert header.clock == "CLOCK_MONOTONIC"


def test_the_run_goes_on_where_a_node_comes_on_line(fake, stream):
    running = Service(QUICK, root=fake.root).ticks()
    assert next(running).snapshot.topology.node_ids == (0, 1)
    fake.node(2, nodes=3)

    tick = next(running)

    assert tick.snapshot.topology.node_ids == (0, 1, 2)
    assert "nodes=0-2 cpus=0-5" in stream.getvalue()


def test_a_trace_of_one_file_ends_where_nodes_come_or_go(tmp_path, stream):
    with trace.Writer(tmp_path / "trace.jsonl", HEADER) as writer:
        same = service.written(writer, tick_of(snapshot(1.0)))
        after = service.written(same, tick_of(snapshot(2.0, on=topology(3))))
        service.written(after, tick_of(snapshot(3.0)))

    assert [each.snapshot.time_s for each in trace.read(tmp_path / "trace.jsonl")[1]] == [1.0]
    assert "trace ended" in stream.getvalue()


@pytest.mark.parametrize(("text", "balances"), [("0\n", False), ("1\n", True), ("2\n", True), (None, False)])
def test_whether_the_kernel_moves_pages_too_is_read(tmp_path, text, balances):
    if text is not None:
        (tmp_path / "proc/sys/kernel").mkdir(parents=True)
        (tmp_path / "proc/sys/kernel/numa_balancing").write_text(text)

    assert service.kernel_balances(tmp_path) == balances
