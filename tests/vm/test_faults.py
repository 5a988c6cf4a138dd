# SPDX-License-Identifier: Apache-2.0

"""A daemon that is killed in the middle of a move leaves the job whole."""

from tests.vm import observer
from tests.vm.running import PATIENCE_S, REST

BEGUN_SHARE, LOCAL_SHARE = 0.1, 0.95


def late_bound(group):
    """Start a job that allocates 200 MiB on node 0, then runs on node 1."""
    workload = group.start("late-bound", "--mb=200", REST)
    workload.tell("bind")
    return workload


def test_a_daemon_killed_in_the_middle_of_a_move_leaves_the_job_whole_and_the_next_one_goes_on(job, daemon):
    service = daemon(mode="act")
    group = job()
    workload = late_bound(group)
    group.label("default")
    observer.wait_for_share(workload.pid, 1, BEGUN_SHARE, limit_s=PATIENCE_S)

    service.process.kill()
    service.process.wait()
    left = observer.anonymous_share(workload.pid, 1)
    before, after = workload.ask("rounds"), workload.ask("rounds")
    daemon(mode="act")
    observer.wait_for_share(workload.pid, 1, LOCAL_SHARE, limit_s=PATIENCE_S)

    assert BEGUN_SHARE <= left < LOCAL_SHARE
    assert before != after  # it runs on
