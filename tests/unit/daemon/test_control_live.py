# SPDX-License-Identifier: Apache-2.0

"""The running daemon, real cgroups and real users: a label said is a job at once, and is there after a kill."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup
from tests.asking import ASK

MOUNT = cgroup.read_mount_point()
pytestmark = pytest.mark.skipif(
    MOUNT is None or os.geteuid() != 0, reason="needs cgroup v2, and root, who can be any user"
)

USER, OTHER = 54711, 54712
CONFIG = "mode: observe\nperiod_s: 0.1\nuser_profiles: [default, hold]\n"
SLEEP = """
import os, sys
cgroup, uid, effective = sys.argv[1:]
with open(cgroup + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
os.setgroups([])
os.setresuid(int(uid), int(effective), int(effective))
# Until it execs, what changed its uid may not be dumped, and so counts as root's too.
os.execv("/bin/sleep", ["sleep", "600"])
"""
REPORT = """
import itertools, os, sys, time
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
from numad_py.runtime import progress
for step in itertools.count():
    progress(step)
    time.sleep(0.1)
"""


def soon(question):
    """Say whether it comes true within ten seconds."""
    until_s = time.monotonic() + 10
    while not (answer := question()) and time.monotonic() < until_s:
        time.sleep(0.1)
    return answer


class Host:
    """A daemon, and cgroups with processes of several users."""

    def __init__(self, folder):
        self.folder = folder
        self.cgroups, self.processes = [], []
        (folder / "run").mkdir(mode=0o755)
        (folder / "numad.yaml").write_text(CONFIG)

    def start(self):
        folders = {
            "STATE_DIRECTORY": str(self.folder / "state"),
            "RUNTIME_DIRECTORY": str(self.folder / "run"),
        }
        command = [sys.executable, "-m", "numad_py", "daemon", "--config", self.folder / "numad.yaml"]
        daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | folders)
        self.processes.append(daemon)
        assert any("event=started" in line for line in daemon.stderr)
        return daemon

    def job(self, name, *uids):
        """Make a cgroup, with a process for each pair of a real uid and an effective one."""
        directory = MOUNT / f"numad-py-control-{os.getpid()}-{name}"
        directory.mkdir()
        self.cgroups.append(directory)
        for pair in uids:
            command = [sys.executable, "-c", SLEEP, directory, *map(str, pair)]
            self.processes.append(subprocess.Popen(command))
            assert soon(lambda pid=self.processes[-1].pid: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        return f"/{directory.name}"

    def asked(self, uid, method, **parameters):
        message = json.dumps({"method": f"io.numad.Control.{method}", "parameters": parameters})
        command = [sys.executable, "-c", ASK, self.folder / "run", str(uid), message]
        answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return answer.get("parameters", {})

    def jobs(self, uid):
        """Give the profile of every job of ours that a user sees, by path."""
        ours = f"/numad-py-control-{os.getpid()}-"
        jobs = self.asked(uid, "Status")["status"]["jobs"]
        return {job["cgroup"]: job["profile"] for job in jobs if job["cgroup"].startswith(ours)}

    def sees(self, uid, jobs):
        """Say whether a user sees these soon."""
        return soon(lambda: self.jobs(uid) == jobs)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
        for directory in self.cgroups:
            directory.rmdir()


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.close()


def test_a_users_label_makes_a_job_that_they_alone_see_and_that_outlives_the_daemon(host):
    mine = host.job("mine", (USER, USER))
    daemon = host.start()

    host.asked(USER, "SetLabel", cgroup=mine, profile="default")
    assert host.sees(USER, {mine: "default"})
    assert host.jobs(OTHER) == {}
    host.asked(USER, "SetLabel", cgroup=mine, profile="hold")
    assert host.sees(USER, {mine: "hold"})
    assert [each["path"] for each in host.asked(0, "Labels")["labels"]] == [mine]
    assert host.asked(OTHER, "Labels") == {"labels": []}
    daemon.kill()
    daemon.wait()
    host.start()
    assert host.sees(USER, {mine: "hold"})
    host.asked(USER, "SetLabel", cgroup=mine, profile=None)
    assert host.sees(USER, {})


def test_a_stranger_or_a_setuid_process_in_it_keeps_a_user_from_labelling_it(host):
    shared = host.job("shared", (USER, USER), (OTHER, OTHER))
    setuid = host.job("setuid", (USER, 0))
    host.start()

    refused = [
        host.asked(USER, "SetLabel", cgroup=path, profile="default")["why"] for path in (shared, setuid)
    ]

    assert refused == [
        f"a process in it belongs to uid {OTHER}, not to you alone",
        "a process in it belongs to uid 0, not to you alone",
    ]
    assert host.jobs(0) == {}


def test_root_labels_any_and_a_user_neither_undoes_that_nor_pauses(host):
    mine = host.job("mine", (USER, USER))
    host.start()

    host.asked(0, "SetLabel", cgroup=mine, profile="interleave")
    refused = [
        host.asked(USER, "SetLabel", cgroup=mine, profile="default"),
        host.asked(USER, "Pause"),
        host.asked(USER, "Resume"),
    ]

    assert all("why" in each for each in refused), refused
    assert host.sees(USER, {mine: "interleave"})


def test_a_process_is_explained_between_two_turns_to_its_user_and_to_nobody_else(host):
    host.job("mine", (USER, USER))
    pid = host.processes[-1].pid
    host.start()

    unlabelled = host.asked(USER, "Explain", pid=pid)
    host.asked(USER, "SetLabel", cgroup=f"/{host.cgroups[-1].name}", profile="default")

    assert f"numad-py label {pid} default opts it in" in unlabelled["why"]
    assert soon(lambda: host.asked(USER, "Explain", pid=pid).get("explained", {}).get("decision"))
    assert host.asked(OTHER, "Explain", pid=pid) == {"why": f"process {pid} is not yours, nor is its job"}


def test_what_a_job_reports_of_its_progress_is_told_in_its_status(host):
    mine = host.job("mine")
    socket = {"NUMAD_PROGRESS": str(host.folder / "run" / "progress")}
    host.start()
    host.processes.append(
        subprocess.Popen([sys.executable, "-c", REPORT, MOUNT / mine[1:]], env=os.environ | socket)
    )

    host.asked(0, "SetLabel", cgroup=mine, profile="hold")

    assert soon(lambda: any((job["progress"] or 0) > 3 for job in host.asked(0, "Status")["status"]["jobs"]))
