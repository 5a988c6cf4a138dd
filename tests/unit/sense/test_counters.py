# SPDX-License-Identifier: Apache-2.0

"""Each job's events are counted, by its cgroup or by its processes, and every descriptor comes back."""

import os
import resource
import time
from pathlib import Path

import pytest

from numad_py.kernel import cgroup, node_sysfs, perf_events, perf_refusals, proc_stat
from numad_py.kernel.perf_events import PAGE_FAULTS
from numad_py.sense.counters import LEFT_TO_OTHERS, Counters
from tests import builders
from tests.counted import CPUS, Child

NUMBER = 500
FEW = 64
WAYS = ["by cgroup", "by process"]


@pytest.fixture(autouse=True)
def _events_are_allowed():
    try:
        os.close(perf_events.open_event(PAGE_FAULTS, cpu=0))
    except OSError as error:
        pytest.skip(perf_refusals.why(error))


@pytest.fixture
def mount():
    mount = cgroup.read_mount_point()
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("needs root and cgroup v2")
    return mount


@pytest.fixture
def child():
    with Child() as child:
        yield child


@pytest.fixture
def group(mount, child):
    """Give a cgroup with the child in it, and a second one below."""
    directory = mount / f"numad-py-counters-{os.getpid()}"
    nested = directory / "nested"
    nested.mkdir(parents=True)
    (directory / "cgroup.procs").write_text(str(child.pid))
    yield directory
    (mount / "cgroup.procs").write_text(str(child.pid))
    for each in (nested, directory):
        until_s = time.monotonic() + 5
        while cgroup.procs(each) and time.monotonic() < until_s:
            time.sleep(0.02)
        each.rmdir()


def seen(child):
    return builders.process(child.pid, start_ticks=proc_stat.read(child.pid).start_ticks)


def job_of(directory, mount, *processes):
    path = f"/{directory.relative_to(mount)}"
    return builders.job(*processes, cgroup_id=cgroup.cgroup_id(directory), path=path)


@pytest.fixture
def counting(mount, tmp_path):
    """Give counters that count one way; a folder that is no cgroup leaves only processes to count."""
    made = []

    def count(way, **options):
        topology = node_sysfs.read_topology()
        made.append(Counters(topology, mount=mount if way == "by cgroup" else tmp_path, **options))
        return made[-1]

    yield count
    for counters in made:
        counters.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_counted_from_look_to_look(way, counting, group, mount, child):
    counters = counting(way)
    jobs = [job_of(group, mount, seen(child))]
    assert counters.look(jobs) == {}
    switched = child.switches()
    child.tell("faults", NUMBER)
    child.tell("thread", "faults", NUMBER)
    child.tell("sleeps", NUMBER)
    child.tell("hops", 100)
    switched = child.switches() - switched

    (counted,) = counters.look(jobs).values()
    (idle,) = counters.look(jobs).values()

    assert 2 * NUMBER <= counted.counts["page-faults"] <= 2 * NUMBER + FEW
    assert NUMBER <= counted.counts["context-switches"] <= switched + FEW  # the thread's own end with it
    assert counted.counts["cpu-migrations"] >= (100 if len(CPUS) > 1 else 0)
    assert counted.period_s > NUMBER * 0.0005
    assert idle.counts["page-faults"] == idle.counts["cpu-migrations"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_the_kernel_no_longer_counts_is_counted_anew(
    way, counting, group, mount, child, monkeypatch
):
    counters = counting(way)
    jobs = [job_of(group, mount, seen(child))]
    counters.look(jobs)
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lambda _descriptor, _size: b"")
        assert counters.look(jobs) == {}

    (counted,) = counters.look(jobs).values()

    assert counted.counts["page-faults"] == 0
    assert counters.problems == counting(way).problems


@pytest.mark.parametrize("way", WAYS)
def test_descriptors_come_back_when_a_job_is_gone(way, counting, group, mount, child):
    counters = counting(way)
    before = descriptors()
    counters.look([job_of(group, mount, seen(child))])
    assert descriptors() == before + counters.descriptors > before

    counters.look([])

    assert descriptors() == before
    assert counters.descriptors == 0


def test_descriptors_come_back_at_the_end(mount, group, child):
    before = descriptors()
    counters = Counters(node_sysfs.read_topology(), mount=mount)
    counters.look([job_of(group, mount, seen(child))])

    counters.close()

    assert descriptors() == before


def test_processes_come_and_go(counting, group, mount, child):
    counters = counting("by process")
    counters.look([job_of(group, mount, seen(child))])
    with Child() as second:
        child.tell("faults", NUMBER)
        counters.look([job_of(group, mount, seen(child), seen(second))])
        both = counters.descriptors
        child.tell("faults", NUMBER)
        second.tell("faults", NUMBER)
    last = [job_of(group, mount, seen(child))]

    (ended,) = counters.look(last).values()
    (alone,) = counters.look(last).values()

    assert 2 * NUMBER <= ended.counts["page-faults"] <= 2 * NUMBER + FEW
    assert alone.counts["page-faults"] == 0
    assert counters.descriptors == both // 2


def test_what_belongs_to_a_nested_job_is_taken_off(counting, group, mount, child):
    counters = counting("by cgroup")
    with Child() as inner:
        (group / "nested/cgroup.procs").write_text(str(inner.pid))
        jobs = [job_of(group, mount, seen(child)), job_of(group / "nested", mount, seen(inner))]
        counters.look(jobs)
        child.tell("faults", NUMBER)
        inner.tell("faults", 3 * NUMBER)

        outer_counted, inner_counted = counters.look(jobs).values()

    assert NUMBER <= outer_counted.counts["page-faults"] <= NUMBER + FEW
    assert 3 * NUMBER <= inner_counted.counts["page-faults"] <= 3 * NUMBER + FEW


def test_a_cgroup_that_took_anothers_place_is_not_counted_for_it(counting, group, mount, child):
    counters = counting("by cgroup")
    job = builders.job(seen(child), cgroup_id=1, path=f"/{group.name}")

    counters.look([job])
    child.tell("faults", NUMBER)

    (counted,) = counters.look([job]).values()
    assert counters.descriptors == 3  # by process: one thread, three events
    assert counted.counts["page-faults"] >= NUMBER


def test_without_a_cgroup_to_count_it_is_said_and_processes_are(counting):
    counters = counting("by process")

    assert any("jobs are counted process by process instead" in problem for problem in counters.problems)


@pytest.fixture
def few_descriptors():
    """Leave that many descriptors to the counters."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(number):
        resource.setrlimit(resource.RLIMIT_NOFILE, (LEFT_TO_OTHERS + number, limits[1]))

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_jobs_that_do_not_fit_are_named_until_they_do(counting, group, mount, child, few_descriptors):
    counters = counting("by cgroup")
    job = job_of(group, mount, seen(child))
    few_descriptors(2)

    assert counters.look([job]) == counters.look([job]) == {}
    (problem,) = [problem for problem in counters.problems if group.name in problem]
    assert "is not counted: no file descriptors left; raise LimitNOFILE" in problem
    assert counters.descriptors == 0

    few_descriptors(100)
    counters.look([job])

    assert not any(group.name in problem for problem in counters.problems)
    assert counters.descriptors > 0


@pytest.fixture
def hoard():
    """Take all descriptors below a limit but so many."""
    taken = []

    def take(limit, *, but):
        taken.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(limit - descriptors() - but))

    yield take
    for descriptor in taken:
        os.close(descriptor)


def test_descriptors_that_others_took_are_missed_without_a_leak(
    counting, group, mount, child, hoard, few_descriptors
):
    counters = counting("by cgroup")
    job = job_of(group, mount, seen(child))
    hoard(LEFT_TO_OTHERS + 100, but=1)
    before = descriptors()
    few_descriptors(100)

    counters.look([job])

    assert any("raise LimitNOFILE" in problem for problem in counters.problems)
    assert descriptors() == before


def test_a_job_that_fits_by_its_processes_alone_is_counted_so(counting, group, mount, child, few_descriptors):
    if sum(len(node.cpus) for node in node_sysfs.read_topology().nodes) < 2:
        pytest.skip("on one CPU its cgroup takes no more")
    counters = counting("by cgroup")
    few_descriptors(3)
    job = job_of(group, mount, seen(child))

    counters.look([job])
    child.tell("faults", NUMBER)

    (counted,) = counters.look([job]).values()
    assert counters.descriptors == 3
    assert counted.counts["page-faults"] >= NUMBER


def test_a_job_that_is_gone_is_no_problem_any_more(counting, group, mount, child, few_descriptors):
    counters = counting("by cgroup")
    few_descriptors(2)
    counters.look([job_of(group, mount, seen(child))])
    said = counters.problems

    counters.look([])

    assert len(counters.problems) == len(said) - 1


def test_a_process_that_is_gone_is_no_error(counting, group, mount):
    with Child() as child:
        gone = job_of(group, mount, seen(child))
    counters = counting("by process")

    counters.look([gone])

    (counted,) = counters.look([gone]).values()
    assert counted.counts["page-faults"] == 0


def test_the_folder_of_a_cgroup_that_is_gone_is_no_error(counting, mount, child):
    counters = counting("by cgroup")
    job = builders.job(cgroup_id=1, path="/gone/for/good")

    counters.look([job])

    assert counters.descriptors == 0
    assert not any("/gone/for/good" in problem for problem in counters.problems)
    assert not Path(mount, "gone").exists()
