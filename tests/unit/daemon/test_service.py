# SPDX-License-Identifier: Apache-2.0

"""The service wires sensor, profiles and actuator for one machine, and tells of labels that do not count."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from numad_py import profiles
from numad_py.daemon import log, service
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.service import NoCgroupError, Service
from numad_py.model import Ending
from numad_py.policies.hold import Hold
from numad_py.profile import ProfileError
from numad_py.rhythm import REPORTS
from numad_py.sense.opt_in import Said
from tests.fake_root import FakeRoot
from tests.unit.daemon.others.programs import listening, wishing

QUICK = Config(period_s=0.1)
MEASURED = Path(__file__).parents[3] / "sim/machines/cxl-beside-two-sockets.yaml"


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


def test_a_model_that_cannot_be_had_is_logged_and_nothing_ends(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(profiles, "find_model", lambda _: tmp_path / "model.json")

    with capture_logs() as log:
        Service(Config(profiles=("learned",)), root=fake.root)

    assert [entry["note"] for entry in log if entry["event"] == "no model"] == [
        "the rules of threshold decide"
    ]


@pytest.mark.parametrize(
    ("mode", "nodes", "closed_by"),
    [
        (Mode.ACT, 2, {}),
        (Mode.OBSERVE, 2, {"configuration": "mode: observe"}),
        (Mode.ACT, 1, {"one node": "there is nothing to move"}),
    ],
)
def test_it_acts_only_where_it_was_told_to_and_there_is_somewhere_to_move_to(
    tmp_path, mode, nodes, closed_by
):
    fake = FakeRoot(tmp_path, nodes)

    assert Service(Config(mode=mode), root=fake.root).gate.closed_by == closed_by


def test_a_gate_that_the_last_configuration_closed_is_opened_by_the_next(fake):
    observing = Service(Config(mode=Mode.OBSERVE), root=fake.root)
    observing.gate.close("operator", "paused")

    acting = Service(Config(mode=Mode.ACT), after=observing, root=fake.root)

    assert acting.gate.closed_by == {"operator": "paused"}


def test_what_was_said_through_the_socket_holds_after_a_reload(fake):
    first = Service(QUICK, root=fake.root)
    said = {7: Said(1000, "hold")}
    first.jobs.rules = replace(first.jobs.rules, said=said)

    second = Service(replace(QUICK, deny=("/a",)), after=first, root=fake.root)

    assert second.jobs.rules == replace(second.config.rules, said=said)


def test_the_actuator_knows_the_steps_that_jobs_told_before_a_reload_too(fake, monkeypatch):
    wired = []
    monkeypatch.setattr(service, "LiveActuator", lambda *_, **knows: wired.append(knows["rhythm"]))
    first = Service(QUICK, root=fake.root)
    for step in range(REPORTS):
        first.jobs.reported.hear(7, b"%d 0.04" % step, step * 0.25)

    Service(QUICK, root=fake.root, after=first)

    assert [rhythm(7).period_s for rhythm in wired] == [0.25, 0.25]


def test_a_balloon_that_changed_a_nodes_size_is_no_other_topology_after_a_reload_and_a_new_cpu_is(fake):
    first = Service(QUICK, root=fake.root)
    (fake.root / "sys/devices/system/node/node0/meminfo").write_text(
        (fake.root / "sys/devices/system/node/node0/meminfo").read_text().replace("1048576", "524288")
    )

    second = Service(QUICK, root=fake.root, after=first)
    fake.write("sys/devices/system/node/node1/cpulist", "2\n")
    third = Service(QUICK, root=fake.root, after=second)

    assert second.topology is first.topology
    assert third.topology.nodes[1].cpus == (2,)


def test_what_was_told_before_a_reload_is_not_told_again(fake, stream):
    first = Service(QUICK, root=fake.root)
    next(first.ticks())
    told = stream.getvalue()

    second = Service(QUICK, after=first, root=fake.root)
    next(second.ticks())

    assert 'event="not seen"' in told
    assert stream.getvalue() == told


def test_a_late_bound_job_would_be_moved(fake, stream):
    running = Service(replace(QUICK, period_s=0.1), root=fake.root)
    ticks = []
    for tenth, tick in enumerate(running.ticks(), 1):
        ticks.append(tick)
        fake.process(100, pages={0: 5000}, ticks={100: (2, 10 * tenth)})
        fake.job(pids=[100])
        if tick.plan.moves or tenth == 20:
            running.clock.stop()

    (move,), (outcome,) = ticks[-1].plan.moves, ticks[-1].outcomes
    assert (move.sources, move.targets, outcome.ending) == ((0,), (1,), Ending.DRY_RUN)
    assert (
        'event="would move" pid=100 comm=python3 job=/job policy=default source=0 target=1'
        in stream.getvalue()
    )


def test_the_program_of_a_job_whose_profile_names_one_is_asked_until_the_turns_end(
    fake, stream, tmp_path, monkeypatch
):
    monkeypatch.setattr(profiles, "PLACES", (tmp_path,))
    monkeypatch.setattr(profiles, "LONGEST_DEADLINE_MS", 60_000)
    (tmp_path / "mine.yaml").write_text(
        f"policy: external\nparameters: {{socket: {tmp_path}/policy, deadline_ms: 30000}}\n"
    )
    fake.process(100, pages={0: 5000})
    fake.job(pids=[100], label="mine")
    wish = {"process": [100, 7], "targets": [1]}

    with listening(tmp_path / "policy", wishing(wish)) as program:
        running = Service(Config(period_s=0.1, profiles=("mine",)), root=fake.root)
        first, *_, last = turns(running, 3)
        assert program.ended.acquire(timeout=60)

    told, (process,) = program.told[1], first.snapshot.processes
    assert told["jobs"][0]["processes"][0]["key"] == [*process.key]
    assert [each.targets for each in last.plan.moves] == [(1,)]


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


def test_a_node_comes_on_line_though_the_machine_file_is_gone(fake, tmp_path):
    measured = shutil.copy(MEASURED, tmp_path / "machine.yaml")
    running = Service(replace(QUICK, machine=str(measured)), root=fake.root)
    ticks = running.ticks()
    next(ticks)

    measured.unlink()
    fake.node(2, nodes=3)
    grown = next(ticks)
    ticks.close()

    assert len(grown.snapshot.topology.nodes) == 3


def test_the_run_goes_on_where_a_node_comes_on_line(fake, stream):
    running = Service(QUICK, root=fake.root).ticks()
    assert next(running).snapshot.topology.node_ids == (0, 1)
    fake.node(2, nodes=3)

    tick = next(running)

    assert tick.snapshot.topology.node_ids == (0, 1, 2)
    assert "nodes=0-2 cpus=0-5" in stream.getvalue()
