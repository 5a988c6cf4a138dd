# SPDX-License-Identifier: Apache-2.0

"""Two threads that nobody bound, one on each node, are bound to one under the shipped profile, and their memory follows."""

import os
import time
from pathlib import Path

import pytest

from tests.jobs import CPUS, new_job  # noqa: F401 - a fixture
from tests.vm import observer
from tests.vm.job_memory import cpus_of
from tests.vm.running import PATIENCE_S

LOCAL_SHARE = 0.95


@pytest.fixture
def on_node():
    """Give the CPUs of both nodes."""
    return [sorted(cpus_of(node)) for node in (0, 1)]


@pytest.fixture
def spread(new_job, on_node):  # noqa: F811
    """Give a job with most of its memory on node 0, and a busy thread on each node, which may go where it likes."""
    # Else a node full of page cache lets memory go to the other.
    Path("/proc/sys/vm/drop_caches").write_text("1")
    job = new_job()
    job.process = job.start()
    for cpus, mb in zip(on_node, (96, 48), strict=True):
        job.process.tell("bind", *cpus).tell("allocate", mb).tell("spin")
    for thread in Path(f"/proc/{job.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), CPUS)
    return job


@pytest.mark.guest("two-wide-nodes")
def test_two_unbound_threads_come_to_one_node_and_their_memory_follows(spread, on_node, daemon, promise):
    service = daemon(mode="act", profiles="[gpu-rank]")
    before = observer.anonymous_share(spread.process.pid, 0)

    labelled_s = time.monotonic()
    os.setxattr(spread.directory, "user.numad.policy", b"gpu-rank")
    told = service.wait_for("tasks moved")
    bound_s, masks = time.monotonic() - labelled_s, spread.masks()
    node = on_node.index(masks[0])
    met_s = observer.wait_for_share(spread.process.pid, node, LOCAL_SHARE, limit_s=PATIENCE_S)
    service.stop()

    print(f"\n{before:.0%} on node 0, bound to node {node}", end="")
    promise("bound, s after the label", bound_s, at_most=8)
    promise("memory there, s after the label", met_s - labelled_s, at_most=12)
    assert "reason=tasks-follow-memory" in told
    assert masks == [on_node[node]] * 3
    assert spread.masks() == [CPUS] * 3
