# SPDX-License-Identifier: Apache-2.0

"""``numad-py look`` tells of the machine, its jobs and a process what the kernel says, and says what it may not read."""

import json
import os
import subprocess
import sys

import pytest

from numad_py.cli.look import look, show
from numad_py.daemon import config
from tests.fake_root import FORBIDDEN, FakeRoot


@pytest.fixture
def fake(tmp_path):
    """Hold a machine of two nodes with a labelled job."""
    return FakeRoot(tmp_path)


def shown(fake, capsys, pid=None):
    show(pid, as_json=False, root=fake.root)
    return capsys.readouterr().out.splitlines()


def values(fake, capsys, pid=None):
    show(pid, as_json=True, root=fake.root)
    return json.loads(capsys.readouterr().out)


def test_a_job_is_shown_with_its_memory_and_threads_by_node(fake, capsys):
    fake.process(7, pages={0: 512, 1: 256}, ticks={7: (0, 5), 8: (3, 5), 9: (2, 0)})
    fake.job("train", pids=[7])
    fake.write("cgroup/cpuset.cpus.effective", "0-3\n")
    fake.write("cgroup/cpuset.mems.effective", "0-1\n")

    lines = shown(fake, capsys)

    assert lines[0] == "available: 2 nodes (0-1)"
    assert lines[-4:] == [
        "job /train: profile default, may use CPUs 0-3, nodes 0-1",
        "  processes: 7",
        "  memory in MB: 2.0 on node 0, 1.0 on node 1",
        "  threads by where they ran last: 1 on node 0, 2 on node 1",
    ]


def test_a_process_that_may_not_be_read_is_named_and_one_that_is_gone_is_not(fake, capsys):
    unreadable = fake.process(7)
    (unreadable / "numa_maps").unlink()
    (unreadable / "numa_maps").symlink_to(FORBIDDEN)
    fake.job("train", pids=[7, 8])

    lines = shown(fake, capsys)

    assert lines[-5:] == [
        "job /train: profile default, no cpuset holds for it",
        "  processes: none",
        "  memory in MB: none",
        "  threads by where they ran last: none",
        "  process 7 was not read: Permission denied",
    ]


def test_a_process_that_a_users_label_does_not_cover_is_named(fake, capsys, monkeypatch, tmp_path):
    (tmp_path / "numad.yaml").write_text("user_profiles: [default]\n")
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "numad.yaml")
    fake.process(7)
    os.chown(fake.job("train", pids=[7]), 1000, 1000)

    lines = shown(fake, capsys)

    assert lines[-1] == "  process 7 was not read: it belongs to uid 0, and uid 1000 labelled the job"


def test_a_machine_without_labels_or_daemon_says_so(fake, capsys):
    lines = shown(fake, capsys)

    assert lines[-2].startswith("no daemon runs; this process may use CPUs ")
    assert lines[-1] == "no job is labelled"


def test_the_daemons_cpuset_is_shown(fake, capsys):
    for pid, command in (
        (7, "python3\0/usr/bin/numad-py\0daemon\0"),
        (8, "vi\0numad-py\0"),
        (9, "numad-py\0daemon\0"),
    ):
        fake.process(pid)
        fake.write(f"proc/{pid}/cmdline", command)
    fake.write("proc/10/cmdline", "numad-py\0daemon\0")  # gone before its status was read
    (fake.root / "proc/9/status").write_text(
        "Uid:\t0\t0\t0\t0\nCpus_allowed_list:\t1\nMems_allowed_list:\t0\n"
    )

    lines = shown(fake, capsys)

    assert lines[-3:-1] == [
        "daemon, PID 7: may use CPUs 0-3, nodes 0-1",
        "daemon, PID 9: may use CPUs 1, nodes 0",
    ]


def test_one_process_is_shown_in_numastats_words(fake, capsys):
    fake.process(7, pages={0: 512, 1: 256})
    heap = "a000 default heap anon=256 N1=256 kernelpagesize_kB=4\n"
    huge = "b000 default file=/anon_hugepage\\040(deleted) huge anon=2 N0=2 kernelpagesize_kB=2048\n"
    stack = "c000 default stack anon=128 N0=128 kernelpagesize_kB=4\n"
    fake.write("proc/7/numa_maps", heap + huge + stack)

    lines = shown(fake, capsys, pid=7)

    assert lines == [
        "Per-node process memory usage (in MBs) for PID 7 (python3)",
        "                           Node 0          Node 1           Total",
        "                  --------------- --------------- ---------------",
        "Huge                         4.00            0.00            4.00",
        "Heap                         0.00            1.00            1.00",
        "Stack                        0.50            0.00            0.50",
        "Private                      0.00            0.00            0.00",
        "----------------  --------------- --------------- ---------------",
        "Total                        4.50            1.00            5.50",
        "",
        "threads by where they ran last: 1 on node 0",
        "may use CPUs 0-3, nodes 0-1",
    ]


def test_names_are_shown_without_a_terminals_commands(fake, capsys):
    fake.process(7, comm="\x1b[31mred")
    fake.job(os.fsdecode(b"train\xff\x1b[2J"), pids=[7])

    machine, process = "\n".join(shown(fake, capsys)), shown(fake, capsys, pid=7)[0]
    (job,) = values(fake, capsys)["jobs"]

    assert "\x1b" not in machine + process
    assert r"job /train\udcff\x1b[2J: profile default" in machine
    assert process.endswith(r"for PID 7 (\x1b[31mred)")
    assert job["path"] == r"/train\udcff\x1b[2J"
    assert job["processes"][0]["comm"] == r"\x1b[31mred"


def test_machines_are_told_in_bytes(fake, capsys):
    fake.process(7, pages={1: 256})
    fake.job("train", pids=[7])

    machine, process = values(fake, capsys), values(fake, capsys, pid=7)

    assert [node["free_bytes"] for node in machine["nodes"]] == [1 << 29, 1 << 29]
    assert machine["distances"] == [[10, 21], [21, 10]]
    assert machine["daemons"] == []
    assert machine["self"]["pid"] == os.getpid()
    (job,) = machine["jobs"]
    assert job["memory_bytes"] == [0, 1 << 20]
    assert job["allowed"] is None
    assert job["processes"] == [process]
    assert process["memory_bytes"]["Private"] == [0, 1 << 20]
    assert process["threads"] == {"0": 1}


def test_a_process_that_is_not_there_is_one_sentence(fake):
    with pytest.raises(ProcessLookupError, match="no such process"):
        show(9, as_json=False, root=fake.root)


def test_a_machine_without_cgroup_v2_has_no_jobs(fake, capsys):
    fake.write("proc/self/mountinfo", "")

    assert shown(fake, capsys)[-1] == "no job is labelled"


def test_this_machine_and_this_process_can_be_looked_at(capsys):
    look(None)
    look(os.getpid(), as_json=True)

    machine, _, process = capsys.readouterr().out.rpartition("\n{\n")
    assert machine.startswith("available: ")
    assert json.loads("{" + process)["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [(["4194304"], 1, "numad-py: PID 4194304: no such process"), (["nine"], 2, "Invalid value for '[PID]'")],
)
def test_what_the_user_can_mend_ends_in_one_sentence(words, status, sentence):
    ended = subprocess.run(
        [sys.executable, "-m", "numad_py", "look", *words], capture_output=True, check=False, text=True
    )

    assert ended.returncode == status
    assert sentence in ended.stderr
