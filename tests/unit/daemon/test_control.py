# SPDX-License-Identifier: Apache-2.0

"""Users see their own jobs, root all; only root stops the daemon, and it stops at once."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from numad_py import __version__
from numad_py.act.actuator import LiveActuator
from numad_py.act.gate import Gate
from numad_py.act.pages import Sizes
from numad_py.daemon import control, control_socket, said_labels, whose
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.control import Control, NoSuchJob, NotKept, NotLookedAt, NotPermitted, Office
from numad_py.daemon.pause import Pause
from numad_py.daemon.said_labels import SaidLabels
from numad_py.daemon.status import Ledger
from numad_py.model import Decision, Ending, Explanation, MovePages, Plan, ProcessKey, Reason, Skipped
from numad_py.rhythm import REPORTS
from numad_py.sense.jobs import Jobs
from numad_py.sense.opt_in import Said
from numad_py.workers import Workers
from tests.asking import ASK
from tests.builders import job, move, process, snapshot, tick
from tests.fake_root import FakeRoot

ROOT, USER, OTHER = 0, 4711, 4712
REPO = Path(__file__).parents[3]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def explain_at_once(_key):
    """Answer as the loop does between two turns."""
    answer = Future()
    answer.set_result(Explanation(Decision.STAY))
    return answer


class Machine:
    """A fake root with jobs, and the office of a daemon that looked at it."""

    def __init__(self, root, state=None):
        self.fake = FakeRoot(root)
        self.gate = Gate()
        self.resumed, self.restored, self.relabelled = [], [], []
        self.config = Config(mode=Mode.ACT, user_profiles=("hold",))
        self.jobs = Jobs(self.fake.mount, self.config.rules)
        self.ledger = Ledger()
        self.office = Office(
            gate=self.gate,
            pause=Pause(state or root, self.gate),
            labels=SaidLabels(state or root, self.fake.mount, root),
            ledger=self.ledger,
            jobs=lambda: self.jobs,
            config=lambda: self.config,
            resume=lambda: self.resumed.append(True),
            restore=lambda: self.restored.append(True),
            relabel=lambda: self.relabelled.append(True),
            explain=explain_at_once,
            mount=self.fake.mount,
            root=root,
        )

    def job(self, name, pid, uid, owner=0):
        """Make a cgroup of that owner, with one process of ``uid``."""
        directory = self.fake.mount / name
        directory.mkdir()
        (directory / "cgroup.procs").write_text(f"{pid}\n")
        self.fake.process(pid)
        self.fake.write(f"proc/{pid}/status", f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        os.chown(self.fake.root / f"proc/{pid}/status", uid, -1)
        os.chown(directory, owner, -1)
        return job(process(pid, pages={0: 10}), cgroup_id=directory.stat().st_ino, path=f"/{name}")

    def look(self, *jobs, skipped=()):
        self.ledger.write(tick(snapshot(jobs=jobs, skipped=skipped)))

    def asked_by(self, uid):
        return Control(uid, self.office)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def status(asked):
    """Give the status as Python sees it."""
    return asked.Status().parameters["status"]


@needs_root
def test_each_user_sees_their_own_jobs_and_root_all(machine):
    machine.look(
        machine.job("a", 100, USER),
        machine.job("b", 200, OTHER),
        machine.job("c", 300, ROOT, owner=USER),
        machine.job("d", 400, ROOT),
    )

    seen = {
        uid: [each.cgroup for each in status(machine.asked_by(uid)).jobs] for uid in (ROOT, USER, OTHER, 9)
    }

    assert seen == {ROOT: ["/a", "/b", "/c", "/d"], USER: ["/a", "/c"], OTHER: ["/b"], 9: []}


@needs_root
def test_nobody_is_told_of_a_process_that_was_skipped_in_anothers_job(machine):
    skipped = [Skipped(ProcessKey(pid, 7), "secret", "EACCES") for pid in (100, 200)]
    mine, others = machine.job("a", 100, USER), machine.job("b", 200, OTHER)
    machine.jobs.pids = {mine.cgroup_id: (100,), others.cgroup_id: (200,)}
    machine.look(mine, others, skipped=skipped)

    (seen,) = status(machine.asked_by(USER)).jobs

    assert [each.pid for each in seen.skipped] == [100]


def explained(machine, uid, pid):
    """Give what is told of a process, or why nothing is."""
    try:
        return asyncio.run(machine.asked_by(uid).Explain(pid=pid)).parameters["explained"].decision
    except (NotPermitted, NotLookedAt) as refusal:
        return refusal.parameters["why"]


@needs_root
@pytest.mark.parametrize(
    ("uid", "owner", "asking", "answered"),
    [
        (USER, ROOT, ROOT, True),
        (USER, ROOT, USER, True),
        (USER, ROOT, OTHER, False),
        (OTHER, USER, USER, True),
        (whose.NOBODY, ROOT, whose.NOBODY, False),
    ],
)
def test_a_process_is_explained_to_its_user_to_whose_its_job_is_and_to_root(
    machine, uid, owner, asking, answered
):
    machine.look(machine.job("a", 100, uid, owner=owner))

    assert explained(machine, asking, 100) == (
        "stay" if answered else "process 100 is not yours, nor is its job"
    )


@needs_root
def test_who_asks_about_anothers_process_is_not_told_whether_it_is_labelled(machine):
    machine.job("a", 100, OTHER)

    assert explained(machine, USER, 100) == "process 100 is not yours, nor is its job"


def test_a_process_that_is_not_there_is_told_of_as_such(machine):
    assert explained(machine, ROOT, 7) == "there is no process 7"


@pytest.mark.parametrize("pid", [-1, 0, 1 << 63])
def test_no_process_has_a_number_that_cannot_be_a_pid(machine, pid):
    assert explained(machine, ROOT, pid) == "no process has such a number"


def test_a_process_that_cannot_be_read_is_told_of_as_such(machine):
    machine.fake.write("proc/100/status", "odd")

    assert explained(machine, ROOT, 100).startswith("process 100 cannot be looked at: status: ")


def test_a_new_process_under_an_old_pid_is_not_taken_for_the_one_that_was_seen(machine):
    machine.look(machine.job("a", 100, ROOT))
    machine.fake.process(100, start_ticks=8)
    machine.fake.write("proc/100/cgroup", "0::/b\n")

    assert "process 100 is not labelled" in explained(machine, ROOT, 100)


def test_a_loop_that_has_no_time_is_waited_for_a_while_and_then_not_asked_any_more(machine, monkeypatch):
    monkeypatch.setattr(control, "PATIENCE_S", 0.01)
    never = Future()
    machine.look(machine.job("a", 100, ROOT))
    machine.office = replace(machine.office, explain=lambda _: never)

    assert explained(machine, ROOT, 100) == "the turn under way takes long: ask again"
    assert never.cancelled()


@needs_root
def test_what_is_told_of_a_process_comes_from_the_last_look_its_label_and_its_last_moves(machine):
    labelled = machine.job("a", 100, USER)
    machine.asked_by(ROOT).SetLabel(cgroup="/a", profile="hold")
    machine.jobs.rules = replace(machine.jobs.rules, said=machine.office.labels.by_cgroup)
    machine.jobs.find()
    machine.gate.close("operator", "paused")
    machine.office = replace(machine.office, replaced=lambda: {"default": "it is late"})
    machine.ledger.write(tick(snapshot(jobs=[labelled]), moves=[move(labelled.processes[0])]))
    for step in range(REPORTS):
        machine.jobs.reported.hear(100, b"%d 0.04" % step, step * 0.25)

    told = asyncio.run(machine.asked_by(USER).Explain(pid=100)).parameters["explained"]

    assert (told.cgroup, told.labelled_by) == ("/a", "root through the socket")
    assert (told.closed_by, told.replaced) == ({"operator": "paused"}, "it is late")
    assert [each.ending for each in told.lately] == ["done"]
    assert told.notes[0].startswith("it makes a step every 250 ms")


def test_a_client_gets_it_over_the_socket(served, machine):
    machine.look(machine.job("a", 100, os.geteuid()))

    told = called(served, "io.numad.Control.Explain", pid=100)["parameters"]["explained"]
    refused = called(served, "io.numad.Control.Explain", pid=7)

    assert (told["pid"], told["decision"], told["nodes"]) == (100, "stay", [0, 1])
    assert refused["error"] == "io.numad.Control.NotLookedAt"


def test_why_it_does_not_act_is_told_to_everybody(machine):
    machine.gate.close("health", "the kernel oopsed")

    told = status(machine.asked_by(USER))

    assert (told.acting, told.closed_by, told.mode) == (False, {"health": "the kernel oopsed"}, "act")


@needs_root
def test_who_labelled_a_job_is_told(machine):
    labelled = machine.job("a", 100, USER)
    machine.asked_by(USER).SetLabel(cgroup="/a", profile="hold")
    machine.jobs.rules = replace(machine.jobs.rules, said=machine.office.labels.by_cgroup)
    machine.jobs.find()
    machine.look(labelled)

    (seen,) = status(machine.asked_by(USER)).jobs

    assert (seen.labelled_by, seen.owner_uid) == ("uid 4711 through the socket", ROOT)


def test_root_pauses_and_resumes_and_who_it_was_is_logged(machine):
    with capture_logs() as log:
        machine.asked_by(ROOT).Pause()
        paused = status(machine.asked_by(ROOT))
        machine.asked_by(ROOT).Resume()

    assert (paused.acting, paused.paused.by_uid) == (False, 0)
    assert machine.gate.is_open
    assert machine.resumed == [True]
    assert [(line["event"], line["uid"]) for line in log] == [("paused", 0), ("resumed", 0)]


@pytest.mark.parametrize(
    ("asked", "restored"), [({}, []), ({"restore": False}, []), ({"restore": True}, [True])]
)
def test_a_pause_gives_threads_their_cpus_back_only_where_that_is_asked_for(served, machine, asked, restored):
    with capture_logs():
        called(served, "io.numad.Control.Pause", **asked)

    assert machine.restored == restored
    assert not machine.gate.is_open


def test_resuming_opens_nothing_that_the_configuration_closed(machine):
    machine.gate.close("configuration", "mode: observe")

    machine.asked_by(ROOT).Resume()

    assert list(machine.gate.closed_by) == ["configuration"]


@pytest.mark.parametrize("method", ["Pause", "Resume"])
def test_a_user_neither_pauses_nor_resumes(machine, method):
    machine.office.pause.begin(ROOT)
    before = machine.gate.closed_by

    with pytest.raises(NotPermitted) as refused:
        getattr(machine.asked_by(USER), method)()

    assert refused.value.parameters == {"why": "this is for root alone, and you are uid 4711"}
    assert machine.gate.closed_by == before
    assert machine.resumed == machine.restored == []


def test_a_pause_that_cannot_be_kept_holds_and_says_so(tmp_path):
    machine = Machine(tmp_path, state=tmp_path / "gone")

    with pytest.raises(NotKept) as told:
        machine.asked_by(ROOT).Pause()

    assert told.value.parameters["why"].startswith("it is paused, but until a restart alone: [Errno 2]")
    assert not machine.gate.is_open


def test_a_pause_whose_end_cannot_be_kept_stays(machine, monkeypatch):
    def broken(*_, **__):
        raise OSError(30, "Read-only file system")

    machine.office.pause.begin(ROOT)
    monkeypatch.setattr(Path, "unlink", broken)

    with pytest.raises(NotKept) as told:
        machine.asked_by(ROOT).Resume()

    assert told.value.parameters["why"].startswith("it stays paused: ")
    assert not machine.gate.is_open
    assert machine.resumed == []


def refused(machine, uid, cgroup="/a", profile="hold"):
    """Give why a label is not taken."""
    before = machine.office.labels.by_cgroup
    with pytest.raises(NotPermitted) as refusal:
        machine.asked_by(uid).SetLabel(cgroup=cgroup, profile=profile)
    assert machine.office.labels.by_cgroup == before
    assert machine.relabelled == []
    return refusal.value.parameters["why"]


@needs_root
@pytest.mark.parametrize("profile", ["hold", "off"])
def test_a_user_labels_a_cgroup_in_which_all_is_theirs(machine, profile):
    labelled = machine.job("a", 100, USER)

    with capture_logs() as log:
        machine.asked_by(USER).SetLabel(cgroup="/a", profile=profile)

    assert machine.office.labels.by_cgroup == {labelled.cgroup_id: Said(USER, profile)}
    assert machine.relabelled == [True]
    assert log == [{"event": "labelled", "log_level": "info", "uid": USER, "job": "/a", "policy": profile}]


@needs_root
def test_a_user_labels_nothing_in_which_a_process_is_anothers(machine):
    machine.job("a", 100, USER)
    (machine.fake.mount / "a/cgroup.procs").write_text("100\n200\n")
    machine.fake.write("proc/200/status", f"Uid:\t{OTHER}\t{OTHER}\t{OTHER}\t{OTHER}\n")

    assert "a process in it belongs to uid" in refused(machine, USER)


@needs_root
@pytest.mark.parametrize("uids", ["0 0 0 0", "4711 0 0 0", "4711 4711 0 4711", "4711 4711 4711 0"])
def test_a_user_labels_nothing_in_which_a_process_is_setuid(machine, uids):
    machine.job("a", 100, USER)
    machine.fake.write("proc/100/status", "Uid:\t" + uids.replace(" ", "\t") + "\n")
    os.chown(machine.fake.root / "proc/100/status", USER, -1)

    assert refused(machine, USER) == "a process in it belongs to uid 0, not to you alone"


@needs_root
def test_a_user_labels_nothing_in_which_a_process_may_not_be_dumped(machine):
    machine.job("a", 100, USER)
    os.chown(machine.fake.root / "proc/100/status", 0, -1)

    assert refused(machine, USER) == "a process in it belongs to uid 0, not to you alone"


@needs_root
def test_a_user_labels_nothing_empty_nothing_too_large_and_nothing_that_cannot_be_read(machine, monkeypatch):
    machine.job("a", 100, USER)
    (machine.fake.mount / "a/cgroup.procs").write_text("")
    assert refused(machine, USER) == "there is no process in it, and so none that is yours"

    (machine.fake.mount / "a/cgroup.procs").write_text("odd\n")
    assert "it cannot be told whose its processes are" in refused(machine, USER)

    (machine.fake.mount / "a/cgroup.procs").write_text("100\n101\n")
    monkeypatch.setattr(whose, "PROCESSES", 1)
    assert "it has more than" in refused(machine, USER)


@needs_root
@pytest.mark.parametrize(
    ("profile", "why"), [("default", "user_profiles allows hold"), ("no/such", "not the name")]
)
def test_a_user_takes_no_profile_but_those_for_users(machine, profile, why):
    machine.job("a", 100, USER)

    assert why in refused(machine, USER, profile=profile)


@needs_root
def test_whoever_has_no_uid_here_labels_nothing(machine):
    machine.job("a", 100, whose.NOBODY)

    assert refused(machine, whose.NOBODY) == "uid 65534 may be anybody"


@needs_root
def test_roots_label_is_not_replaced_by_a_users_nor_taken_off(machine):
    machine.job("a", 100, USER)
    machine.asked_by(ROOT).SetLabel(cgroup="/a", profile="interleave")
    machine.relabelled.clear()

    assert "root's word is stronger" in refused(machine, USER)
    assert "root's word is stronger" in refused(machine, USER, profile=None)


@needs_root
def test_the_labels_that_were_said_are_told_to_who_said_them_and_to_root(machine):
    machine.job("a", 100, USER)
    machine.asked_by(USER).SetLabel(cgroup="/a", profile="off")

    told = {
        uid: [
            (each.path, each.uid, each.profile)
            for each in machine.asked_by(uid).Labels().parameters["labels"]
        ]
        for uid in (USER, OTHER, ROOT)
    }

    assert told == {USER: [("/a", USER, "off")], OTHER: [], ROOT: [("/a", USER, "off")]}


@needs_root
def test_a_label_is_taken_off_by_who_said_it_and_by_root(machine):
    machine.job("a", 100, USER)
    for uid in (USER, ROOT):
        machine.asked_by(USER).SetLabel(cgroup="/a", profile="hold")
        machine.asked_by(uid).SetLabel(cgroup="/a", profile=None)
        assert machine.office.labels.by_cgroup == {}
    machine.asked_by(USER).SetLabel(cgroup="/a", profile="hold")
    machine.relabelled.clear()

    assert refused(machine, OTHER, profile=None) == "you have not labelled it here"


def test_root_labels_what_is_there_with_any_profile_that_is_allowed(machine):
    (machine.fake.mount / "a").mkdir()

    machine.asked_by(ROOT).SetLabel(cgroup="/a", profile="default")
    machine.relabelled.clear()

    assert [said.profile for said in machine.office.labels.by_cgroup.values()] == ["default"]
    for profile in ("nonsense", ""):
        assert refused(machine, ROOT, profile=profile)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "a",
        "/b",
        "/a/",
        "//a",
        "/a/..",
        "/../cgroup/a",
        "/./a",
        "/link",
        "/a/file",
        "/a\0",
        "/" + "x" * 5000,
        "/é\udcff",
    ],
)
def test_only_the_plain_path_of_a_cgroup_is_one(machine, path):
    (machine.fake.mount / "a").mkdir()
    (machine.fake.mount / "é\udcff").mkdir()  # which is there, and no UTF-8
    (machine.fake.mount / "a/file").touch()
    (machine.fake.mount / "link").symlink_to(machine.fake.mount / "a")

    with pytest.raises(NoSuchJob):
        machine.asked_by(ROOT).SetLabel(cgroup=path, profile="hold")


def test_a_label_that_cannot_be_kept_is_not_taken(tmp_path):
    machine = Machine(tmp_path, state=tmp_path / "gone")
    (machine.fake.mount / "a").mkdir()

    with pytest.raises(NotKept):
        machine.asked_by(ROOT).SetLabel(cgroup="/a", profile="hold")

    assert machine.office.labels.by_cgroup == {}
    assert machine.relabelled == []


def test_a_label_that_is_said_again_is_told_and_looked_at_once(machine):
    (machine.fake.mount / "a").mkdir()

    with capture_logs() as log:
        for _ in range(3):
            machine.asked_by(ROOT).SetLabel(cgroup="/a", profile="hold")

    assert [line["event"] for line in log] == ["labelled"]
    assert machine.relabelled == [True]


@needs_root
def test_one_user_changes_labels_no_faster_than_so_many_a_minute(machine, monkeypatch):
    monkeypatch.setattr(said_labels, "PER_MINUTE", 1)
    machine.job("a", 100, USER)
    machine.asked_by(USER).SetLabel(cgroup="/a", profile="hold")
    machine.relabelled.clear()

    assert "try again in 60 s" in refused(machine, USER, profile=None)


@needs_root
def test_one_user_labels_no_more_than_so_many(machine, monkeypatch):
    monkeypatch.setattr(said_labels, "PER_USER", 1)
    machine.job("a", 100, USER)
    machine.job("b", 101, USER)
    machine.asked_by(USER).SetLabel(cgroup="/b", profile="hold")
    machine.relabelled.clear()

    assert "no user may label more" in refused(machine, USER)


class PausedMeanwhile(Gate):
    """A gate at whose second question the operator pauses the daemon, through its socket."""

    def __init__(self, path):
        super().__init__()
        self._path = path
        self._questions = 0

    @property
    def is_open(self):
        self._questions += 1
        if self._questions == 2:
            assert called(self._path, "io.numad.Control.Pause") == {}
        return super().is_open


def called(path, method, **parameters):
    """Call a method in plain JSON, and give the reply."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
        text = b""
        while not text.endswith(b"\0"):
            text += client.recv(1 << 16)
    return json.loads(text[:-1])


@pytest.fixture
def served(machine, tmp_path):
    """Give the path of a socket where the machine's daemon answers."""
    with control.served(machine.office, tmp_path):
        yield tmp_path / control_socket.NAME


@needs_root
def test_a_pause_in_the_middle_of_a_turn_stops_before_the_next_move(tmp_path):
    gate = PausedMeanwhile(tmp_path / "control")
    machine = Machine(tmp_path)
    office = replace(machine.office, gate=gate, pause=Pause(tmp_path, gate))
    none = np.zeros(0, np.uint64)
    gone = MovePages(ProcessKey(os.getpid(), 1), none, none, none, (0,), (0,), 4096, Reason.SPREAD)

    with control.served(office, tmp_path):
        outcomes = LiveActuator(Workers(), Sizes(4096, 0), gate).move(Plan((gone,) * 3))

    assert [outcome.ending for outcome in outcomes] == [Ending.GONE, Ending.DRY_RUN, Ending.DRY_RUN]


def test_it_says_what_it_is_and_describes_itself_as_varlink_services_do(served):
    info = called(served, "org.varlink.service.GetInfo")["parameters"]
    described = called(served, "org.varlink.service.GetInterfaceDescription", interface="io.numad.Control")[
        "parameters"
    ]["description"]

    assert (info["product"], info["version"]) == ("numad-py", __version__)
    assert info["interfaces"] == ["io.numad.Control", "org.varlink.service"]
    assert described == Control.render_interface_description()


def test_the_description_in_the_documentation_is_the_one_that_is_served():
    documented = (REPO / "docs/control.md").read_text()

    assert Control.render_interface_description(comments=False).strip() in documented


def by(uid, folder, method):
    """Call a method as another user, and give the reply."""
    command = [sys.executable, "-c", ASK, folder, str(uid), json.dumps({"method": method})]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@needs_root
def test_a_real_other_user_is_known_by_the_kernels_word(machine, tmp_path):
    machine.look(machine.job("a", 100, USER), machine.job("b", 200, OTHER))
    (tmp_path / "run").mkdir(mode=0o755)

    with control.served(machine.office, tmp_path / "run"):
        seen = by(USER, tmp_path / "run", "io.numad.Control.Status")
        refused = by(USER, tmp_path / "run", "io.numad.Control.Pause")

    assert [each["cgroup"] for each in seen["parameters"]["status"]["jobs"]] == ["/a"]
    assert refused["error"] == "io.numad.Control.NotPermitted"
    assert machine.gate.is_open
