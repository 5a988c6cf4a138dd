# SPDX-License-Identifier: Apache-2.0

"""What a user of the machine tries on the daemon, which runs as root, comes to nothing: each attack, tried as that user."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from numad_py import trace
from numad_py.cli.asking import NoAnswer, ask
from numad_py.daemon import log
from numad_py.kernel import cgroup
from numad_py.sense import opt_in
from tests.faults.conftest import until

USER, OTHER = 61234, 61235
CONFIG = "mode: act\nperiod_s: 0.1\nbudget_core_share: 0.5\nuser_profiles: [default]\n"
MIB = 1 << 20

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")


@pytest.fixture
def running(daemon, tmp_path, monkeypatch):
    """Give a daemon whose socket all may reach, and that records."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return daemon("--trace", tmp_path / "trace.jsonl", "--trace-ring", "64M", config=CONFIG)


@pytest.fixture
def delegated(group):
    """Give a cgroup that was handed over to the user, as systemd does it for a user's own slice."""
    directory = group("delegated", label="")
    os.removexattr(directory, cgroup.LABEL)
    for path in (directory, directory / "cgroup.procs", directory / "cgroup.subtree_control"):
        os.chown(path, USER, USER)
    return directory


@pytest.fixture
def sleeper():
    """Give a function that starts a process of a user in a cgroup."""
    started = []

    def start(directory, uid, program="sleep", **how):
        words = [program, "600"]
        started.append(
            subprocess.Popen(words, preexec_fn=lambda: in_cgroup(directory, uid), **how)  # noqa: PLW1509
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def in_cgroup(directory, uid):
    (directory / "cgroup.procs").write_text("0")
    become(uid)


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def as_user(attempt, *words, uid=USER, **named):
    """Do something as that user, in a process of its own; give what came of it, or the sentence that refused it."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.close(reader)
        become(uid)
        try:
            came = attempt(*words, **named)
        except (OSError, NoAnswer) as error:
            came = f"refused: {error}"
        os.write(writer, msgspec.json.encode(came))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        came = msgspec.json.decode(answer.read())
    os.waitpid(child, 0)
    return came


def labelled(directory, label=b"default"):
    """Make a cgroup with a label; what a user does in an own directory."""
    directory.mkdir(exist_ok=True)
    os.setxattr(directory, cgroup.LABEL, label)


def looked_at(running, tmp_path):
    """Give the PIDs of all processes that were ever told of, which alone can be moved."""
    running.turns(5)
    running.stop()
    _, ticks = trace.read(tmp_path / "trace.jsonl")
    return {process.key.pid for tick in ticks for process in tick.snapshot.processes}


def path_of(directory):
    return f"/{directory.relative_to(cgroup.read_mount_point())}"


def test_the_socket_does_not_let_a_user_label_what_holds_anothers_process(running, group, sleeper, tmp_path):
    strangers = group("strangers", label="")
    os.removexattr(strangers, cgroup.LABEL)
    theirs = sleeper(strangers, OTHER)

    said = as_user(ask, "SetLabel", cgroup=path_of(strangers), profile="default")

    assert said == f"refused: a process in it belongs to uid {OTHER}, not to you alone"
    assert theirs.pid not in looked_at(running, tmp_path)


def test_a_users_label_on_an_own_directory_covers_no_process_of_others_in_it(
    running, delegated, sleeper, tmp_path
):
    theirs, own = sleeper(delegated, OTHER), sleeper(delegated, USER)

    as_user(labelled, delegated)
    running.wait_for("event=skipped", f"pid={theirs.pid} ")
    seen = looked_at(running, tmp_path)

    assert own.pid in seen
    assert theirs.pid not in seen


def test_a_setuid_program_that_a_user_starts_in_an_own_labelled_cgroup_is_left_alone(
    running, delegated, sleeper, tmp_path
):
    program = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep"), program)
    program.chmod(0o4755)
    as_user(labelled, delegated)
    roots = sleeper(delegated, USER, program)

    running.wait_for("event=skipped", f"pid={roots.pid} ")

    assert roots.pid not in looked_at(running, tmp_path)


@pytest.mark.parametrize("name", ["../../tmp/evil", "/tmp/evil.yaml", "os:system", "hold", "evil.yaml"])  # noqa: S108 - an attack
def test_a_label_can_name_no_file_no_module_and_no_profile_that_users_may_not(
    running, delegated, sleeper, tmp_path, name
):
    own = sleeper(delegated, USER)

    as_user(labelled, delegated, name.encode())
    running.wait_for("label ignored", path_of(delegated))

    assert own.pid not in looked_at(running, tmp_path)


def test_a_user_can_neither_pause_nor_resume_nor_see_the_jobs_of_others(running, group, sleeper):
    directory = group("strangers")
    sleeper(directory, OTHER)
    until(lambda: path_of(directory) in jobs_told())

    pause, resume = as_user(ask, "Pause"), as_user(ask, "Resume")
    seen = as_user(ask, "Status")

    assert pause.endswith(f"this is for root alone, and you are uid {USER}")
    assert resume.endswith(f"this is for root alone, and you are uid {USER}")
    assert seen["status"]["jobs"] == [], seen
    assert path_of(directory) in jobs_told()


def jobs_told():
    """Give the paths of the jobs that root is told of."""
    return [job["cgroup"] for job in ask("Status")["status"]["jobs"]]


def test_what_the_daemon_keeps_and_records_is_readable_to_no_user(running, tmp_path):
    running.turns()

    secrets = [*tmp_path.glob("*.json"), *tmp_path.glob("trace*")]

    assert len(secrets) >= 2
    assert {as_user(readable, path) for path in secrets} == {False}


def readable(path):
    return os.access(path, os.R_OK)


def test_a_user_with_thousands_of_labelled_cgroups_fills_neither_journal_nor_memory_nor_trace(
    running, delegated, tmp_path
):
    running.turns()
    before, recorded = resident_bytes(running.process.pid), trace_bytes(tmp_path)

    as_user(many_labelled, delegated, 3000)
    running.turns(20)

    assert len(running.said("level=warning")) + len(running.said("level=info")) <= 2 * log.MOST_ALIKE
    assert resident_bytes(running.process.pid) - before < 30 * MIB
    assert trace_bytes(tmp_path) - recorded < 20 * MIB
    assert len([path for path in jobs_told() if path.startswith(path_of(delegated))]) == opt_in.PER_USER
    assert running.stop() == 0


def many_labelled(directory, count):
    for number in range(count):
        labelled(
            directory / f"job-{number}", b"default" if number % 2 else b"no\n\xff" + bytes([number % 200])
        )


def resident_bytes(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) << 10


def trace_bytes(folder):
    return sum(path.stat().st_size for path in folder.glob("trace*"))


def test_a_tree_of_cgroups_that_is_deeper_than_any_path_is_borne(running, delegated):
    depth = as_user(dug, delegated, 30)

    running.turns(5)

    as_user(filled_in, delegated)
    assert depth == 30
    assert running.stop() == 0
    assert running.strange() == []


def dug(directory, depth):
    """Make cgroups within each other, with the longest names, by ways that no whole path can name."""
    os.chdir(directory)
    for level in range(depth):
        name = f"{level:02}" + "x" * 200
        os.mkdir(name)  # noqa: PTH102 - it has no whole path
        os.chdir(name)
    return depth


def filled_in(directory):
    subprocess.run(
        ["find", ".", "-mindepth", "1", "-depth", "-type", "d", "-delete"], cwd=directory, check=True
    )


def test_names_that_are_no_text_are_borne_shown_escaped_and_recorded(running, delegated, sleeper, tmp_path):
    odd = delegated / os.fsdecode(b"\xff \x1b]0;evil\x07 level=error event=lie")
    assert as_user(labelled, odd) is None
    program = tmp_path / os.fsdecode(b"\xfe\n\x1bx) R 1 (")
    program.symlink_to(shutil.which("sleep"))
    own = sleeper(odd, USER, program)
    until(lambda: [job["processes"] for job in as_user(ask, "Status")["status"]["jobs"]] == [1])

    (job,) = as_user(ask, "Status")["status"]["jobs"]

    assert own.pid in looked_at(running, tmp_path)
    assert "\\xff" in job["cgroup"] or "\\udcff" in job["cgroup"]
    assert not [line for line in running.lines if line.startswith("level=error")]
    assert running.strange() == []


def test_whatever_a_user_sends_to_the_socket_root_is_answered(running):
    began_s = time.monotonic()

    as_user(shouted, os.environ["RUNTIME_DIRECTORY"])

    assert ask("Status")["status"]["turns"] > 0
    assert time.monotonic() - began_s < 30
    assert running.stop() == 0
    assert running.strange() == []


def shouted(folder):
    """Send what is no call, what never ends, and nothing at all, on as many connections as can be had."""
    words = (
        b"\0",
        b"{}\0",
        b"[" * 20_000,
        b"{" + b"x" * (1 << 20),
        b'{"method":null}\0',
        bytes(range(256)) * 99,
        b"",
    )
    kept = []
    for number in range(200):
        with contextlib.suppress(OSError):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(1)
            client.connect(f"{folder}/control")
            client.sendall(words[number % len(words)])
            kept.append(client)
    return len(kept)


def test_a_file_that_a_user_drops_into_conf_d_is_not_taken_at_a_reload(running, tmp_path):
    (tmp_path / "conf.d").mkdir()
    wrong = tmp_path / "conf.d/99-mine.yaml"
    wrong.write_text("user_profiles: [default, hold, interleave]\n")
    os.chown(wrong, USER, USER)

    running.process.send_signal(signal.SIGHUP)

    assert "the old configuration stays" in running.wait_for(
        "not reloaded", f"{wrong}: belongs to uid {USER}"
    )
    assert running.stop() == 0


def test_a_user_cannot_pose_as_the_daemon_that_root_starts(tmp_path):
    """A folder that a user made where the daemon's is to be is not written through a link of that user's."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime/lock").symlink_to(victim)
    environment = os.environ | {
        name: str(tmp_path / "runtime") for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY")
    }

    refused = subprocess.run(
        [sys.executable, "-m", "numad_py", "daemon", "--once"],
        env=environment,
        capture_output=True,
        check=False,
    )

    assert refused.returncode == 1
    assert victim.read_text() == "precious\n"
