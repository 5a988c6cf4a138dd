# SPDX-License-Identifier: Apache-2.0

"""The hooks for Slurm and OCI runtimes label real cgroups of this machine, and nothing that a user writes is run."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup

HOOKS = Path(__file__).parents[2] / "systemd/hooks"
MOUNT = cgroup.read_mount_point()
HOSTILE = [
    "; touch {trap}",
    "$(touch {trap})",
    "`touch {trap}`",
    "\ntouch {trap}\n",
    "../../x",
    "--clear",
    "-h",
    "*",
    "",
    " default",
    "x" * 100_000,
    "hold",  # a profile that users may not name
    "nonsense",
    "d\x1b[31m",
]

pytestmark = pytest.mark.skipif(
    MOUNT is None or not os.access(MOUNT, os.W_OK), reason="needs root and cgroup v2"
)


class Site:
    """A host with the hooks installed, a fake logger and scontrol, and ``numad-py`` of this very tree."""

    def __init__(self, folder):
        self.folder, self.trap = folder, folder / "trap"
        (folder / "numad.yaml").write_text("profiles: [default, hold]\nuser_profiles: [default]\n")
        label = f'{sys.executable} -m numad_py label --config {folder}/numad.yaml "$@"'
        self.command("numad-py", f"echo called >>{folder}/calls; shift; exec {label}")
        self.command("logger", f'echo "$*" >>{folder}/log')
        self.command("scontrol", f'[ "$1 $2 $3 $4" = "show job 7 -o" ] && cat {folder}/job')
        self.show("")

    def command(self, name, line):
        (self.folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.folder / name).chmod(0o755)

    def show(self, text):
        """Let scontrol say this of the job."""
        (self.folder / "job").write_text(text)

    def run(self, command, *, stdin="", **environment):
        path = {"PATH": f"{self.folder}:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(
            command,
            input=stdin,
            env=path | environment,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def prolog(self, comment=None, job="7"):
        """Run Slurm's hook to its end: as it runs in the background."""
        said = {} if comment is None else {"SLURM_JOB_COMMENT": comment}
        return self.run([HOOKS / "slurm-prolog"], SLURM_JOB_ID=job, NUMAD_PY_WAITS="1", **said)

    def oci(self, state):
        text = state if isinstance(state, str) else json.dumps(state)
        return self.run([sys.executable, "-IS", HOOKS / "oci-hook"], stdin=text)

    @property
    def log(self):
        return (self.folder / "log").read_text() if (self.folder / "log").exists() else ""

    @property
    def called(self):
        return (self.folder / "calls").exists()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def job():
    """Give the cgroup of Slurm's job 7 on this host."""
    scope = MOUNT / f"system.slice/numad-py-test-{os.getpid()}_slurmstepd.scope"
    made = [each for each in (scope.parent, scope, scope / "job_7") if not each.exists()]
    for each in made:
        each.mkdir()
    yield scope / "job_7"
    for each in reversed(made):
        if each.exists():
            each.rmdir()


@pytest.fixture
def container():
    """Give the cgroup of a container, and the PID of its only process."""
    directory = MOUNT / f"numad-py-test-{os.getpid()}.scope"
    directory.mkdir()
    process = subprocess.Popen(["sleep", "600"])
    (directory / "cgroup.procs").write_text(str(process.pid))
    yield directory, process.pid
    process.kill()
    process.wait()
    while "populated 1" in (directory / "cgroup.events").read_text():
        time.sleep(0.01)
    directory.rmdir()


@pytest.mark.parametrize("comment", ["numad:default", "mine,numad:default,yours", "a b numad:default c"])
def test_slurms_job_is_labelled_with_the_profile_of_its_comment(site, job, comment):
    ran = site.prolog(comment)

    assert (ran.returncode, cgroup.label_of(job)) == (0, "default")
    assert re.search(
        r"-t numad-py-slurm -- job 7: /system.slice/\S+/job_7  default  root's directory  counts", site.log
    )


def test_slurms_job_may_be_opted_out(site, job):
    site.prolog("numad:off")

    assert cgroup.label_of(job) == "off"


def test_the_comment_is_asked_of_slurm_where_the_prolog_is_not_told(site, job):
    site.show("JobId=7 JobName=a Comment=numad:default WorkDir=/home/u StdErr=/dev/null\n")

    site.prolog()

    assert cgroup.label_of(job) == "default"


@pytest.mark.parametrize("comment", ["", "none of ours", "numad", "Numad:default"])
def test_a_job_without_our_word_in_its_comment_is_left_alone_without_a_word(site, job, comment):
    site.show("JobId=7 JobName=numad:default WorkDir=/numad:default\n")

    ran = site.prolog(comment)

    assert (ran.returncode, cgroup.label_of(job), site.log, site.called) == (0, None, "", False)


@pytest.mark.parametrize("word", [word for word in HOSTILE if word and word[0] not in " \n"])
def test_no_comment_is_run_or_labels_with_what_its_user_may_not_name(site, job, word):
    ran = site.prolog(f"numad:{word.format(trap=site.trap)}")

    assert (ran.returncode, ran.stdout, cgroup.label_of(job)) == (0, "", None)
    assert not site.trap.exists()
    assert site.log


@pytest.mark.parametrize("word", ["\ntouch {trap}\n", " default", ""])
def test_a_comment_that_ends_after_our_word_names_no_profile(site, job, word):
    site.prolog(f"numad:{word.format(trap=site.trap)}")

    assert (cgroup.label_of(job), site.called, site.trap.exists()) == (None, False, False)
    assert "names no profile" in site.log


@pytest.mark.parametrize("number", ["", "7; touch {trap}", "../7", "*"])
def test_what_is_no_number_of_a_job_is_left_alone(site, job, number):
    ran = site.prolog("numad:default", job=number.format(trap=site.trap))

    assert (ran.returncode, cgroup.label_of(job), site.called) == (0, None, False)


def test_the_job_does_not_wait_for_the_hook_which_waits_for_the_jobs_cgroup(site, job):
    job.rmdir()
    began_s = time.monotonic()
    ran = site.run([HOOKS / "slurm-prolog"], SLURM_JOB_ID="7", SLURM_JOB_COMMENT="numad:default")
    took_s = time.monotonic() - began_s

    job.mkdir()
    while cgroup.label_of(job) is None and time.monotonic() < began_s + 120:
        time.sleep(0.1)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert took_s < 30  # half of what the hook waits
    assert cgroup.label_of(job) == "default"


def test_a_hook_without_numad_py_fails_no_job(site, job):
    (site.folder / "numad-py").unlink()

    ran = site.prolog("numad:default")

    assert (ran.returncode, cgroup.label_of(job)) == (0, None)
    assert "not found" in site.log


def state(pid, word):
    """Give what a runtime tells its hooks of a container."""
    return {
        "ociVersion": "1.0.2",
        "id": "c0ffee",
        "status": "running",
        "pid": pid,
        "bundle": "/run/c0ffee",
        "annotations": {"io.numad.policy": word, "org.example": "x"},
    }


@pytest.mark.parametrize("word", ["default", "off"])
def test_a_container_is_labelled_with_the_profile_of_its_annotation(site, container, word):
    directory, pid = container

    ran = site.oci(state(pid, word))

    assert (ran.returncode, ran.stdout, cgroup.label_of(directory)) == (0, "", word)
    assert f"container 'c0ffee': /{directory.name}  {word}" in ran.stderr


@pytest.mark.parametrize("word", [*HOSTILE, None, 7, ["default"], {"a": 1}, "default\n"])
def test_no_annotation_is_run_or_labels_with_what_its_user_may_not_name(site, container, word):
    directory, pid = container
    word = word.format(trap=site.trap) if isinstance(word, str) else word

    ran = site.oci(state(pid, word))

    assert (ran.returncode, ran.stdout, cgroup.label_of(directory)) == (0, "", None)
    assert not site.trap.exists()


@pytest.mark.parametrize("pid", [0, -1, "1", True, None, 1.0, 1 << 22])
def test_a_container_whose_process_cannot_be_is_told_and_fails_nobody(site, pid):
    ran = site.oci(state(pid, "default"))

    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{", "null", '{"annotations": []}', '{"annotations": 7, "id": 1}']
)
def test_a_state_that_is_none_fails_nobody(site, text):
    ran = site.oci(text)

    assert (ran.returncode, ran.stdout, site.called) == (0, "", False)
    assert "Traceback" not in ran.stderr


def test_a_container_without_our_annotation_is_left_alone_without_a_word(site):
    ran = site.oci({"id": "c0ffee", "pid": 1, "annotations": {}})

    assert (ran.returncode, ran.stdout, ran.stderr, site.called) == (0, "", "", False)


def test_the_runtimes_are_told_to_call_the_hook_for_our_annotation_alone():
    hook = json.loads((HOOKS / "numad-py.json").read_text())

    (pattern,) = hook["when"]["annotations"]
    assert hook["hook"]["path"] == "/usr/libexec/numad-py/oci-hook"
    assert [
        bool(re.search(pattern, name)) for name in ("io.numad.policy", "io.numad.policyx", "ioxnumad.policy")
    ] == [
        True,
        False,
        False,
    ]
