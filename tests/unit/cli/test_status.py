# SPDX-License-Identifier: Apache-2.0

"""``status``, ``pause`` and ``resume`` talk to the daemon, and end in a sentence where there is none."""

import io
import json
import re
import socket
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from numad_py.act.gate import Gate
from numad_py.cli import asking
from numad_py.cli import status as module
from numad_py.cli.asking import NoAnswer
from numad_py.cli.pause import pause, resume
from numad_py.cli.status import show, status
from numad_py.daemon import control, control_socket
from numad_py.daemon.config import Config
from numad_py.daemon.pause import Pause
from numad_py.daemon.status import Facts, JobStatus, Ledger
from numad_py.model import Ending, Held, Outcome, ProcessKey, Refusal, Skipped
from numad_py.sense.jobs import Jobs
from tests.builders import GIB, MIB, job, move, process, snapshot, tick
from tests.unit.daemon.test_control import explain_at_once

WORKER = process(100, pages={0: 300, 1: 100}, cpu_s={1: 0.5})
JOB = job(WORKER, cgroup_id=7, path="/train.slice/job-17.scope")


class Daemon:
    """A daemon that looked at one job, in a thread of its own."""

    def __init__(self, folder):
        self.gate = Gate()
        self.ledger = Ledger()
        self.asked = []
        self.office = control.Office(
            gate=self.gate,
            pause=Pause(folder, self.gate),
            labels=None,
            ledger=self.ledger,
            jobs=lambda: Jobs(folder, Config().rules),
            config=Config,
            resume=lambda: None,
            restore=lambda: self.asked.append("restore"),
            relabel=lambda: None,
            explain=explain_at_once,
            mount=folder,
        )


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    daemon = Daemon(tmp_path)
    with control.served(daemon.office, tmp_path), capture_logs():
        yield daemon


def shown(ledger, **told):
    """Give what people are shown, on a wide terminal."""
    jobs = [(each, Facts((100,), "root's directory", 0)) for each in ledger.jobs()]
    answer = ledger.told(jobs, **{"mode": "act", "closed_by": {}, "paused": None} | told)
    show(answer, Console(file=(stream := io.StringIO()), width=200))
    return stream.getvalue()


def test_the_first_lines_say_whether_it_acts_and_each_reason_why_not():
    acting = shown(Ledger())
    paused = shown(Ledger(), closed_by={"operator": "paused since noon", "configuration": "mode: observe"})

    assert acting.startswith("acting\nnumad-py ")
    assert paused.startswith(
        "not acting: operator: paused since noon\nnot acting: configuration: mode: observe\n"
    )


def test_a_profile_for_whose_policy_another_stands_in_is_told_with_the_reason():
    said = shown(Ledger(), replaced={"mine": "it did not answer in time\x1b"})

    assert "profile mine: another policy stands in for its own: it did not answer in time\\x1b\n" in said


def test_before_the_first_look_it_says_so():
    said = shown(Ledger())

    assert "it has not looked yet" in said
    assert "no job is labelled, or none that you may see" in said


def test_a_job_is_a_row_of_a_table():
    ledger = Ledger()
    held = Held(WORKER.key, MIB, Refusal.NO_ROOM)
    ledger.write(
        tick(snapshot(jobs=[JOB]), moves=[move(WORKER)], outcomes=[Outcome(Ending.LIMIT, GIB)], held=[held])
    )

    said = shown(ledger)

    lines = [line.split() for line in said.splitlines()]
    row = lines.index(["/train.slice/job-17.scope", "default", "1", "0:1.2", "1:0.4", "75%", "1024.0"])
    assert [" ".join(line) for line in lines[row + 1 :]] == [
        "/train.slice/job-17.scope",
        "labelled by root's directory",
        "1024.0 MB moved within the last minute",
        "last move: limit",
        "held back: no room on the target",
    ]


@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_on_80_columns_everything_of_a_job_can_be_read(nodes):
    path, profile = f"/kubepods.slice/{'p' * 80}/cri-containerd-{'c' * 64}.scope", "gpu-rank"
    placed = [bytes_ << 20 for bytes_ in range(100_001, 100_001 + nodes)]
    told = JobStatus(
        cgroup=path,
        cgroup_id=7,
        profile=profile,
        labelled_by=f"root's directory {path}",
        owner_uid=0,
        processes=1024,
        resident_bytes=placed,
        remote_share=1.0,
        moved_bytes=99_999_999 << 20,
        moved_lately_bytes=0,
        held_back_lately=["no room on the target"],
        last_outcome=None,
        progress=None,
        judged={},
        skipped=[],
        postponed=0,
    )
    answer = Ledger().told([], mode="act", closed_by={}, paused=None)
    show(
        replace(answer, jobs=[told], nodes=list(range(nodes))),
        Console(file=(stream := io.StringIO()), width=80),
    )

    table, _, details = stream.getvalue().partition(f"\n{path}\n")
    head, *rows = table.partition("job ")[2].splitlines()
    assert head.split() == ["profile", "processes", "MB", "by", "node", "remote", "moved", "MB"]
    assert "".join(row.split(" ")[0] for row in rows) == path
    assert [f"{node}:{100_001 + node}.0" for node in range(nodes)] == re.findall(r"\d:\S+", table)
    assert {profile, "1024", "100%", "99999999.0"} <= set(rows[0].split())
    assert details.splitlines() == [
        f"  labelled by root's directory {path}",
        "  held back: no room on the target",
    ]


def test_who_was_skipped_is_said_without_a_terminals_commands():
    ledger = Ledger()
    skipped = Skipped(ProcessKey(100, 7), "\x1b[31mred", "EACCES")
    ledger.write(tick(snapshot(jobs=[job(path="/[bold]job:100:")], skipped=[skipped])))

    said = shown(ledger)

    assert r"skipped in /[bold]job:100:: \x1b[31mred, PID 100: EACCES" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("up_s", "span"), [(61, "1 min 1 s"), (3600 * 5 + 120, "5 h 2 min"), (86400 * 3 + 3600, "3 d 1 h")]
)
def test_how_long_it_is_up_is_told_in_two_units(up_s, span):
    ledger = Ledger()
    ledger.started_unix_s = int(time.time() - up_s)

    assert f", up {span}" in shown(ledger)


def test_the_daemon_is_asked(daemon, capsys):
    daemon.ledger.write(tick(snapshot(time.monotonic(), jobs=[])))

    status(as_json=False)

    said = capsys.readouterr().out
    assert said.startswith("acting\n")
    assert said.splitlines()[1].endswith("1 turns, nodes 0 1")


def test_everything_is_there_for_machines(daemon, capsys):
    status(as_json=True)

    assert json.loads(capsys.readouterr().out)["acting"] is True


def test_a_daemon_of_another_version_is_told(monkeypatch):
    monkeypatch.setattr(module, "ask", lambda _: {"status": {"version": "9.0"}})

    with pytest.raises(NoAnswer, match=r"^the daemon is numad-py 9\.0, and this is .* restart it"):
        status(as_json=False)


def test_a_pause_and_its_end_are_confirmed(daemon, capsys):
    pause(restore=True)
    paused = daemon.gate.is_open
    resume()

    assert (paused, daemon.gate.is_open, daemon.asked) == (False, True, ["restore"])
    assert [line.partition(";")[0] for line in capsys.readouterr().out.splitlines()] == ["paused", "resumed"]


def test_without_a_daemon_it_says_where_nothing_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))

    with pytest.raises(
        NoAnswer, match=rf"^the daemon is not running: nothing listens at {tmp_path}/control$"
    ):
        pause()


def test_a_socket_that_a_daemon_left_behind_is_no_daemon(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control"))

    with pytest.raises(NoAnswer, match="not running"):
        pause()


@pytest.mark.parametrize("answer", [b"", b'{"par'])
def test_a_daemon_that_hangs_up_is_told(tmp_path, monkeypatch, answer):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))

    def hang_up(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        daemon = threading.Thread(target=hang_up, args=[listener])
        daemon.start()
        with pytest.raises(NoAnswer, match="does not answer"):
            pause()
        daemon.join()


def test_a_daemon_that_says_nothing_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(asking, "PATIENCE_S", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()

        with pytest.raises(NoAnswer, match="does not answer"):
            pause()


@pytest.mark.parametrize(
    ("method", "parameters", "why"),
    [
        ("Shout", {}, r"the daemon says org\.varlink\.service\.MethodNotFound .*Shout"),
        ("Pause", {"word": 1}, r"the daemon says org\.varlink\.service\.InvalidParameter .*word"),
    ],
)
def test_what_another_version_does_not_understand_is_told(daemon, method, parameters, why):
    with pytest.raises(NoAnswer, match=why):
        asking.ask(method, **parameters)


def test_what_is_no_utf_8_is_not_asked(daemon):
    with pytest.raises(NoAnswer, match="takes only what is UTF-8"):
        asking.ask("SetLabel", cgroup="/a\udcff", profile="hold")


def test_the_reason_of_a_refusal_is_the_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    office = Daemon(tmp_path).office
    listener = control_socket.listening(tmp_path)

    with (
        control_socket.Server(listener, lambda uid: control.registry(uid, office), uid_of=lambda _: 4711),
        pytest.raises(NoAnswer, match=r"^this is for root alone, and you are uid 4711$"),
    ):
        pause()
