# SPDX-License-Identifier: Apache-2.0

"""``explain`` says in sentences why the memory of a process is where it is."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from numad_py.cli.asking import NoAnswer
from numad_py.cli.explain import explain, lines
from numad_py.daemon import control
from numad_py.daemon.explaining import Circumstances, HeldBack, Moved, explained
from numad_py.mendable import Mendable
from numad_py.model import Compared, Decision, Explanation
from numad_py.profile import ProfileError
from numad_py.trace import Header, Writer
from tests.builders import MIB, TWO_NODES, job, process, regions, snapshot, tick
from tests.unit.daemon.test_control import Machine

WORKER = process(100, pages={0: 300 * 256, 1: 100 * 256}, cpu_s={1: 0.5}, nodes_allowed=(1,))
TRACE = Path(__file__).parents[3] / "sim/traces/late-bound-default.jsonl.zst"
MOVED = Moved(97.0, 1, "pages", "memory-follows-cpu", [1], 300 * MIB, 200 * MIB, 0, "limit", "", {}, {})


def told(explanation=None, worker=WORKER, **more):
    """Give the lines about the worker."""
    labelled = job(worker, path="/train.slice/job-17.scope")
    around = Circumstances(now_s=100.5, period_s=2.0, labelled_by="root's directory", **more)
    return list(lines(explained(snapshot(jobs=[labelled]), labelled, worker, explanation, around)))


def test_first_comes_who_it_is_then_what_keeps_the_daemon_from_acting_and_where_it_is():
    said = told(closed_by={"configuration": "mode: observe"})

    assert said[:8] == [
        "process 100 (python3) of the job /train.slice/job-17.scope, profile default, as root's directory says",
        "the daemon does not act: configuration: mode: observe",
        "looked at 0.5 s ago",
        "",
        "node     CPU s   memory MB  of it movable",
        "   0      0.00       300.0          300.0  outside its cpuset",
        "   1      0.50       100.0          100.0",
        "",
    ]


def test_that_another_policy_stands_in_is_said():
    assert told(replaced="it is late")[1] == "another policy stands in for that of its profile: it is late"


@pytest.mark.parametrize(
    ("age_s", "said"),
    [
        (0.2, "looked at 0.5 s ago"),
        (90.0, "looked at 0.5 s ago, its memory 2 min before that"),
        (float("inf"), "looked at 0.5 s ago, its memory never"),
    ],
)
def test_memory_that_was_not_looked_at_lately_is_said_to_be_older(age_s, said):
    assert said in told(worker=replace(WORKER, placement_age_s=age_s))


FIGURES = (Compared("remote_share", 0.98765, "remote_share_above", 0.1), Compared("looks", 1, "patience", 3))


@pytest.mark.parametrize(
    ("explanation", "said"),
    [
        (Explanation(Decision.MOVE, FIGURES, (1,)), "what it has elsewhere should come to node 1 now"),
        (
            Explanation(Decision.WAIT, FIGURES, (1,), 1),
            "what it has elsewhere should come to node 1 once 1 more look says the same, in 2.0 s",
        ),
        (
            Explanation(Decision.WAIT, FIGURES, (0, 1), 3),
            "what it has elsewhere should come to nodes 0, 1 once 3 more looks say the same, in 6.0 s",
        ),
        (Explanation(Decision.STAY, FIGURES, (1,)), "it is well where it is: it belongs on node 1"),
        (Explanation(Decision.STAY), "its policy leaves everything where it is"),
        (
            Explanation(Decision.NO_EVIDENCE),
            "it stays where it is: it ran too little, or on too many nodes, to tell where it belongs",
        ),
        (None, "its policy tells no more than the figures of its moves"),
        (Explanation(Decision.STAY, notes=("nothing else",)), "  nothing else"),
    ],
)
def test_what_was_decided_is_a_sentence(explanation, said):
    assert said in told(explanation)


def test_each_figure_stands_beside_its_limit_rounded():
    said = told(Explanation(Decision.WAIT, (*FIGURES, Compared("cpu_s", 0.05, "least_cpu_s", 0.05)), (1,), 2))

    assert said[8:11] == [
        "  remote_share 0.988 is over remote_share_above 0.1",
        "  looks 1 is under patience 3",
        "  cpu_s 0.05 is exactly least_cpu_s 0.05",
    ]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            HeldBack(MIB, "rate limit", {"room_mb": 490.04, "rate_mb": 0}),
            "1.0 MB: rate limit (room_mb 490, rate_mb 0)",
        ),
        (
            HeldBack(MIB, "backing off after failures", {"wait_s": 20.0, "failures": 1}),
            "1.0 MB: backing off after failures, for 19.5 s yet (failures 1)",
        ),
        (HeldBack(0, "tasks are not moved", {}), "its threads: tasks are not moved"),
    ],
)
def test_what_was_held_back_says_why_and_for_how_long_yet(held, said):
    around = explained(snapshot(jobs=[job(WORKER)]), job(WORKER), WORKER, None, Circumstances(100.5, 1.0))

    assert f"held back: {said}" in list(lines(replace(around, held=[held])))


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (MOVED, "3.5 s ago: 200.0 of 300.0 MB to node 1, memory-follows-cpu: limit"),
        (
            replace(
                MOVED, ending="refused", detail="no", failed={"EBUSY": 2}, figures={"looks": 2.0}, times=3
            ),
            "3.5 s ago, 3 times in a row: 200.0 of 300.0 MB to node 1, memory-follows-cpu (looks 2): refused (no), EBUSY: 2",
        ),
        (
            replace(MOVED, ending="dry-run", times=2),
            "3.5 s ago, 2 times in a row: 300.0 MB would have moved to node 1, memory-follows-cpu",
        ),
        (
            replace(MOVED, what="shared pages"),
            "3.5 s ago: 200.0 of 300.0 MB that its job shares to node 1, memory-follows-cpu: limit",
        ),
        (
            replace(MOVED, what="threads", moved_threads=4, ending="done", time_s=-100.0),
            "3 min ago: 4 threads to node 1, memory-follows-cpu: done",
        ),
    ],
)
def test_how_its_last_moves_ended_is_told(moved, said):
    assert told(lately=(moved,))[-2:] == ["its last moves:", f"  {said}"]


def test_figures_that_stand_beside_their_limits_are_not_said_again_and_those_in_ns_are_said_in_ms():
    figures = {"remote_share": 0.9, "saving_ns_per_s": 153_740_456.0, "cost_ns": 2e6}
    around = explained(
        snapshot(jobs=[job(WORKER)]),
        job(WORKER),
        WORKER,
        Explanation(Decision.MOVE, FIGURES, (1,)),
        Circumstances(100.5, 1.0, (replace(MOVED, figures=figures),)),
    )

    said = list(lines(replace(around, held=[HeldBack(MIB, "no room", figures)])))

    assert "held back: 1.0 MB: no room (saving_ms_per_s 154, cost_ms 2)" in said
    assert said[-1].endswith("memory-follows-cpu (remote_share 0.9): limit")


def test_where_nothing_was_moved_it_says_so():
    assert told()[-1] == "nothing of it was moved lately"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Give a machine whose daemon answers."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    machine = Machine(tmp_path)
    with control.served(machine.office, tmp_path), capture_logs():
        yield machine


def test_the_daemon_is_asked(served, capsys):
    served.look(served.job("a\x1b", 100, os.geteuid()))

    explain(100)
    explain(100, as_json=True)

    people, machines = capsys.readouterr().out.split("\n{", 1)
    assert people.startswith(r"process 100 (python3) of the job /a\x1b, profile default")
    assert json.loads("{" + machines)["decision"] == "stay"


def test_what_the_daemon_says_no_to_is_one_sentence(served):
    with pytest.raises(NoAnswer, match=r"^there is no process 4242$"):
        explain(4242)


def test_without_a_daemon_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))

    with pytest.raises(NoAnswer, match="the daemon is not running"):
        explain(100)


def test_a_daemon_of_another_version_is_told_of(monkeypatch):
    monkeypatch.setattr("numad_py.cli.explain.ask", lambda *_, **__: {"explained": {"pid": 100}})

    with pytest.raises(NoAnswer, match=r"the daemon is of another version: .*restart it, or ask with --json"):
        explain(100)


def test_a_recording_is_asked_as_of_when_the_process_was_seen_last(capsys):
    explain(2, trace=TRACE)

    said = capsys.readouterr().out
    assert "it is well where it is: it belongs on node 1" in said
    assert "  remote_share 0 is under remote_share_above 0.1" in said
    assert "15.0 s ago: 8.9 of 8.9 MB to node 1, memory-follows-cpu: done" in said


def test_a_policy_that_waits_at_the_end_of_a_recording_says_so(tmp_path, capsys):
    path = tmp_path / "trace.jsonl"
    large = replace(WORKER, regions=regions({0: 1200 * 256, 1: 400 * 256}))
    with Writer(path, Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9)) as writer:
        for time_s in (1.0, 3.0):
            writer.write(tick(time_s=time_s, jobs=[job(large)] if time_s == 3.0 else []))

    explain(100, trace=path)

    assert "should come to node 1 once 1 more look says the same, in 2.0 s" in capsys.readouterr().out


def test_a_recording_without_the_process_or_of_an_unknown_profile_says_so(tmp_path):
    path = tmp_path / "trace.jsonl"
    with Writer(path, Header(TWO_NODES, "6.1.0", "5b0e", 1.7e9)) as writer:
        writer.write(tick(jobs=[job(WORKER, profile="no-such")]))

    with pytest.raises(Mendable, match=r"no job in it has a process 7$"):
        explain(7, trace=TRACE)
    with pytest.raises(ProfileError, match="there is no profile 'no-such'"):
        explain(100, trace=path)
