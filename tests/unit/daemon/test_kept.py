# SPDX-License-Identifier: Apache-2.0

"""What the daemon changed, and whom it has to leave alone, is known after a restart, however it ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from numad_py.daemon import kept
from numad_py.daemon.config import Config, Mode
from numad_py.daemon.kept import Backoffs
from numad_py.daemon.service import Service
from numad_py.guard import Guard, Limits
from numad_py.model import Ending, MoveTasks, Outcome, Plan, Reason, Refusal, Tick
from numad_py.roles import Policy
from tests.builders import move, process, snapshot
from tests.fake_root import FakeRoot
from tests.jobs import CPUS, FIRST, new_job, real_root  # noqa: F401 - fixtures

ROOT = Path(__file__).parents[3]
KILLED_IN_THE_MIDDLE = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.unit.daemon.test_kept import follow
for tick in follow({machine!r}, {mount!r}, {state!r}).ticks():
    if any(outcome.moved_threads for outcome in tick.task_outcomes):
        os.kill(os.getpid(), signal.SIGKILL)
"""


class ToNode0(Policy):
    """Lets every process run on node 0 alone."""

    def decide(self, snapshot):
        moves = (MoveTasks(each.key, (0,), Reason.TASKS_FOLLOW_MEMORY) for each in snapshot.processes)
        return Plan(task_moves=tuple(moves))


def follow(machine, mount, state):
    """Wire a service that lets the jobs below a cgroup run on node 0."""
    return Service(
        Config(mode=Mode.ACT, period_s=0.1),
        affinities=kept.journal(Path(state), Path(machine)),
        policy=Guard(ToNode0(), Limits(tasks=True)),
        mount=Path(mount),
        root=Path(machine),
    )


def until_moved(service):
    """Turn until threads were moved, at most ten times; leave the service as it is then."""
    for turn, tick in enumerate(service.ticks()):
        if turn == 10 or any(outcome.moved_threads for outcome in tick.task_outcomes):
            break


@pytest.fixture
def labelled(new_job):  # noqa: F811
    """Give a cgroup with a labelled job in it, in which one process runs."""
    top = new_job()
    job = new_job(below=top)
    os.setxattr(job.directory, "user.numad.policy", b"default")
    job.process = job.start()
    return job


@pytest.fixture
def service(labelled, real_root, tmp_path):  # noqa: F811
    return follow(real_root, below(real_root, labelled), tmp_path)


def below(root, job):
    """Give the cgroup that a job is in, as it is called below a root."""
    return root / job.directory.parent.relative_to("/")


def test_a_job_that_was_narrowed_and_forked_is_restored_when_asked(service, labelled):
    until_moved(service)
    labelled.process.tell("fork", 20)
    narrowed = labelled.masks()

    restored = service.restore_affinities()
    service.restore_affinities()  # finds nothing more

    assert narrowed == [FIRST] * 21
    assert restored.threads == service.taken_back == 21
    assert labelled.masks() == [CPUS] * 21


def test_after_a_kill_the_next_start_restores(labelled, real_root, tmp_path):  # noqa: F811
    words = {
        "root": str(ROOT),
        "machine": str(real_root),
        "mount": str(below(real_root, labelled)),
        "state": str(tmp_path),
    }
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE.format(**words)], check=False)
    labelled.process.tell("fork", 20)
    narrowed = labelled.masks()

    restored = kept.restore(kept.journal(tmp_path, real_root))

    assert killed.returncode == -signal.SIGKILL
    assert narrowed == [FIRST] * 21
    assert restored.threads == 21
    assert labelled.masks() == [CPUS] * 21


def follow_on(service, policy):
    """Give the service that comes after a reload."""
    return Service(service.config, after=service, policy=policy, mount=service.mount, root=service._root)  # noqa: SLF001


def turn_until_restored(service, job):
    """Turn until the job has what it had, at most ten times."""
    for turn, _ in enumerate(service.ticks()):
        if turn == 10 or job.masks() == [CPUS]:
            break


def test_a_job_that_is_no_longer_labelled_gets_back_what_it_had(service, labelled):
    until_moved(service)
    narrowed = labelled.masks()
    os.removexattr(labelled.directory, "user.numad.policy")

    turn_until_restored(follow_on(service, service.policy), labelled)

    assert narrowed == [FIRST]
    assert labelled.masks() == [CPUS]


def test_what_is_off_below_a_job_keeps_what_its_owner_bound_it_to(service, labelled, new_job):  # noqa: F811
    apart = new_job(below=labelled)
    os.setxattr(apart.directory, "user.numad.policy", b"off")
    os.sched_setaffinity(apart.start().pid, FIRST)
    until_moved(service)
    narrowed = labelled.masks()
    os.removexattr(labelled.directory, "user.numad.policy")

    restored = service.restore_affinities()

    assert narrowed == [FIRST] * 2
    assert restored.threads == 1
    assert (apart.masks(), labelled.masks()) == ([FIRST], [FIRST, CPUS])


def test_a_job_whose_profile_leaves_tasks_alone_gets_back_what_it_had(service, labelled):
    until_moved(service)
    narrowed = labelled.masks()

    turn_until_restored(follow_on(service, None), labelled)  # as the shipped profile `default` says

    assert narrowed == [FIRST]
    assert labelled.masks() == [CPUS]


def test_a_journal_of_which_half_is_written_is_put_aside(tmp_path):
    fake = FakeRoot(tmp_path)
    (tmp_path / "affinities").write_text('{"boot_id":"0d5f8b7e-0000-4000-8000-00')

    journal = kept.journal(tmp_path, fake.root)

    assert kept.restore(journal).threads == 0
    assert (tmp_path / "affinities.broken").exists()


class Always(Policy):
    """Wishes the same move every time."""

    def __init__(self, wish):
        self.wish = wish

    def decide(self, snapshot):
        return Plan((self.wish,))


ONE = process(pages={0: 100})


def refused_once():
    """Give a guard of which a move was refused at second 100."""
    guard = Guard(Always(move(ONE)), Limits(1e6))
    guard.decide(snapshot(99.0))
    seen = snapshot(100.0, processes=[ONE])
    guard.review(Tick(seen, guard.decide(seen), (Outcome(Ending.REFUSED),)))
    return guard


def after_a_restart(folder, root):
    """Give what the guard of the next daemon says at seconds 101 and 102."""
    guard = Guard(Always(move(ONE)), Limits(1e6))
    guard.recall(Backoffs(folder, root).waits)
    guard.decide(snapshot(101.0, processes=[ONE]))
    return [held.why for held in guard.decide(snapshot(102.0, processes=[ONE])).held]


def test_a_refused_move_is_not_repeated_after_a_restart(tmp_path):
    fake = FakeRoot(tmp_path)
    Backoffs(tmp_path, fake.root).save(refused_once())

    assert after_a_restart(tmp_path, fake.root) == [Refusal.BACKOFF]


def test_after_another_boot_nobody_waits(tmp_path):
    fake = FakeRoot(tmp_path)
    Backoffs(tmp_path, fake.root).save(refused_once())
    fake.write("proc/sys/kernel/random/boot_id", "another\n")

    assert Refusal.BACKOFF not in after_a_restart(tmp_path, fake.root)


def test_backoffs_are_saved_every_ten_seconds_at_most_and_only_if_they_changed(tmp_path):
    fake, now = FakeRoot(tmp_path), [100.0]
    backoffs, path, guard = (
        Backoffs(tmp_path, fake.root, lambda: now[0]),
        tmp_path / "backoffs.json",
        refused_once(),
    )

    backoffs.turn(guard)
    soon = path.exists()
    now[0] = 110.0
    backoffs.turn(guard)
    first = path.stat().st_ino
    now[0] = 120.0
    backoffs.turn(guard)

    assert not soon
    assert path.stat().st_ino == first


def test_a_disk_that_is_full_does_not_end_the_daemon(tmp_path):
    fake = FakeRoot(tmp_path)
    backoffs = Backoffs(tmp_path / "gone", fake.root)

    backoffs.save(refused_once())

    assert not (tmp_path / "gone").exists()
