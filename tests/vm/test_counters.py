# SPDX-License-Identifier: Apache-2.0

"""On cgroup v2 of an older kernel too, a job's events are counted, by its cgroup and by its processes."""

import pytest

from numad_py.kernel import node_sysfs, proc_stat
from numad_py.model import Job, Process, ProcessKey, Regions
from numad_py.sense.counters import Counters
from numad_py.sense.cpu_time import NO_THREADS
from tests.counted import Child
from tests.vm.conftest import CGROUPS

NUMBER = 500
FEW = 64


@pytest.fixture(params=["by cgroup", "by process"])
def counters(request, tmp_path):
    by_cgroup = request.param == "by cgroup"
    counters = Counters(node_sysfs.read_topology(), mount=CGROUPS if by_cgroup else tmp_path)
    yield counters
    counters.close()


@pytest.mark.guest("two-nodes", "four-nodes")
def test_a_known_number_of_events_is_counted_as_that(counters, job):
    cgroup = job()
    with Child() as child:
        cgroup.adopt(child.pid)
        key = ProcessKey(child.pid, proc_stat.read(child.pid).start_ticks)
        process = Process(key, "child", (), NO_THREADS, Regions.empty(2), 0.0)
        jobs = [Job(cgroup.id, f"/{cgroup.path.name}", "default", (process,), None)]
        counters.look(jobs)
        switched = child.switches()
        child.tell("faults", NUMBER)
        child.tell("thread", "faults", NUMBER)
        child.tell("sleeps", NUMBER)
        child.tell("hops", 100)
        switched = child.switches() - switched

        (counted,) = counters.look(jobs).values()
    print(counted, *counters.problems, sep="\n")

    assert 2 * NUMBER <= counted.counts["page-faults"] <= 2 * NUMBER + FEW
    assert NUMBER <= counted.counts["context-switches"] <= switched + FEW
    assert counted.counts["cpu-migrations"] >= 100
    assert counters.descriptors > 0
