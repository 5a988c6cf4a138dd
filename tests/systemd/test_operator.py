# SPDX-License-Identifier: Apache-2.0

"""What an operator does with the package in its life, from its first install to an upgrade, with commands alone.

Where memory is and which CPUs a thread may use is asked of the kernel, never of the daemon.
"""

import os
from contextlib import contextmanager

from tests.systemd.jobs import FORKER, cgroup, job, label, late_bound, pids
from tests.systemd.service import (
    BACK_OFFS,
    BEFORE,
    METRICS,
    NOW,
    PROFILES,
    configure,
    drop_in,
    install,
    mark,
    wait_for_line,
    write,
)
from tests.systemd.typed import sh, wait_for, wait_until
from tests.vm import observer
from tests.vm.running import PATIENCE_S

MOSTLY = 0.80  # Python itself has some 5 MiB where it first ran, and the job some 45 in all
BOTH, NODE_1 = {0, 1}, {1}
CHILDREN = 20
AS_ALICE = "setpriv --reuid=alice --regid=alice --clear-groups"
OF_THE_TRAINING = f"JOB={cgroup('training')}"

# What is installed, with a policy that narrows masks: no shipped profile does.
NUMAD_PY = "/usr/bin/python3 -IS /checkout/tests/systemd/narrowing.py"
NARROWING = f"[Service]\nExecStart=\nExecStart={NUMAD_PY} daemon\n"
NARROW_PROFILE = "policy: narrow\nguard:\n  tasks: true\n  backoff_s: 600\n"


def test_what_an_operator_does():
    install(BEFORE)
    with late_bound("training") as training:
        training.tell("bind")
        it_observes_and_says_what_it_would_do(training)
        told_to_act_it_repairs_the_job(training)
        the_repair_is_seen_everywhere()
        with narrowing():
            masks_are_given_back_at_stop()
        masks_are_given_back_by_the_next_start_after_sigkill()
        an_upgrade_keeps_what_was_said_and_learnt()


def it_observes_and_says_what_it_would_do(training):
    sh("systemctl --no-pager status numad-py")
    sh(f"numad-py label {cgroup('training')} default")

    wait_for_line("would move", OF_THE_TRAINING)

    assert observer.anonymous_share(training.pid, 0) > MOSTLY


def told_to_act_it_repairs_the_job(training):
    sh("sed -i 's/^mode: observe/mode: act/' /etc/numad-py/numad.yaml")
    sh("systemctl reload numad-py")

    observer.wait_for_share(training.pid, 1, MOSTLY, PATIENCE_S)


def the_repair_is_seen_everywhere():
    wait_for_line("moved", OF_THE_TRAINING, "REASON=memory-follows-cpu")
    status = sh("numad-py status")
    moved = wait_for("numad_job_moved_bytes_total", f"grep {cgroup('training')} {METRICS}")

    assert status.startswith("acting")
    assert cgroup("training") in status
    assert f'numad_job_moved_bytes_total{{cgroup="{cgroup("training")}",node="1"}}' in moved


@contextmanager
def narrowing():
    """Let the service run with the policy that narrows, for jobs of that profile."""
    write(PROFILES / "narrow.yaml", NARROW_PROFILE)
    with drop_in("narrowing", NARROWING):
        configure("mode: act", "profiles: [default, narrow]", "user_profiles: [narrow]")
        sh("systemctl restart numad-py")
        yield
        sh("systemctl stop numad-py")
    configure("mode: act")


def masks_are_given_back_at_stop():
    with job("narrowed", FORKER) as parent:
        narrow_and_fork(parent)

        sh("systemctl stop numad-py")

        assert masks("narrowed") == [BOTH] * (CHILDREN + 1)


def narrow_and_fork(parent):
    """Have the job narrowed, then let it fork: the children inherit the mask."""
    label("narrowed", "narrow")
    wait_until("its mask is narrowed", lambda: os.sched_getaffinity(parent.pid) == NODE_1)
    assert parent.ask(CHILDREN) == ["forked"]
    assert masks("narrowed") == [NODE_1] * (CHILDREN + 1)


def masks(name):
    """Give the mask of every process of a job, as the kernel has it."""
    return [os.sched_getaffinity(pid) for pid in pids(name)]


def masks_are_given_back_by_the_next_start_after_sigkill():
    with job("narrowed", FORKER) as parent:
        with narrowing():
            narrow_and_fork(parent)
            kill_and_keep_down()
            assert masks("narrowed") == [NODE_1] * (CHILDREN + 1)

        sh("systemctl start numad-py")

        assert masks("narrowed") == [BOTH] * (CHILDREN + 1)


def kill_and_keep_down():
    """End the daemon so that it can do nothing more."""
    with drop_in("down", "[Service]\nRestart=no\n"):
        sh("systemctl kill --signal=SIGKILL numad-py")
        wait_for("failed", "systemctl show --property=ActiveState numad-py")


def an_upgrade_keeps_what_was_said_and_learnt():
    of_the_bound = f"JOB={cgroup('bound')}"
    with job("narrowed", FORKER) as parent, job("bound", FORKER, "0") as bound:
        with narrowing():
            sh(f"{AS_ALICE} {NUMAD_PY} label {cgroup('bound')} narrow")
            wait_for_line("tasks not moved", of_the_bound)
            narrow_and_fork(parent)
            wait_for(f"[{bound.pid},", f"cat {BACK_OFFS}")
            kill_and_keep_down()
            since = mark()

            sh(f"dpkg --install {NOW}")
            sh("systemctl start numad-py")

            learnt = wait_for_line("backing off", since, of_the_bound)
            assert "tasks not moved" not in learnt
            assert cgroup("bound") in sh("numad-py status")
            assert masks("narrowed") == [NODE_1] * (CHILDREN + 1)
        assert masks("narrowed") == [BOTH] * (CHILDREN + 1)
        assert masks("bound") == [{0}]
