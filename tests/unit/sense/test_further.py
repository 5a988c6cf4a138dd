# SPDX-License-Identifier: Apache-2.0

"""What other eyes see of a job is added to it, and what they cannot see is said."""

import os

import pytest

from numad_py.kernel import proc_stat
from numad_py.machines import Bandwidth, MachineFile, Measured
from numad_py.model import Accesses, AccessSource, JobCounters
from numad_py.sense import further
from numad_py.sense.further import FurtherSenses, peaks
from numad_py.sense.investigate.investigations import Found
from tests.builders import TWO_NODES, job, np, process
from tests.fake_root import FakeRoot


@pytest.fixture
def senses(tmp_path):
    fake = FakeRoot(tmp_path)
    opened = FurtherSenses(
        TWO_NODES,
        mount=fake.mount,
        core_share=1.0,
        investigate=False,
        damon_state=tmp_path / "damon",
        root=fake.root,
    )
    yield opened
    opened.close()


@pytest.fixture
def us():
    """Give a job of our own process, which real events can count."""
    return job(process(os.getpid(), start_ticks=proc_stat.read(os.getpid()).start_ticks))


def test_a_job_is_counted_from_one_look_to_the_next(senses, us):
    (first,) = senses.add([us], 0.0)
    (second,) = senses.add([us], 10.0)

    assert first.counters is None
    assert isinstance(second.counters, JobCounters)
    assert second.counters.counts["page-faults"] >= 0
    assert second.processes == us.processes


def test_what_cannot_be_seen_is_said(senses):
    assert any("cycles" in problem for problem in senses.problems)


def test_what_an_investigation_saw_is_told_once(senses, us, monkeypatch):
    none = np.zeros(0, np.uint64)
    seen = Accesses(AccessSource.DAMON, (), none, none, np.zeros((0, 0), np.int64), 10, 1.0)
    turns = iter([Found({us.processes[0].key: seen}, 0.7), Found()])
    monkeypatch.setattr(further.Investigations, "turn", lambda *_: next(turns))

    (told,) = senses.add([us], 0.0)
    cost_s = senses.investigation_cpu_s
    (afterwards,) = senses.add([us], 1.0)

    assert (told.processes[0].accesses, cost_s) == (seen, 0.7)
    assert (afterwards.processes[0].accesses, senses.investigation_cpu_s) == (None, 0.0)


def test_with_investigations_samples_are_asked_for_first_then_damon_then_idle_pages(tmp_path):
    fake = FakeRoot(tmp_path)
    fake.write("proc/sys/kernel/numa_balancing", "1\n")

    senses = FurtherSenses(
        TWO_NODES,
        mount=fake.mount,
        core_share=0.01,
        investigate=True,
        damon_state=tmp_path / "damon",
        root=fake.root,
    )
    senses.close()

    assert [type(each).__name__ for each in senses.sources] == ["AccessSampler", "Damon", "IdlePages"]


@pytest.mark.parametrize(
    ("read", "bytes_per_s"),
    [(((10.0, 4.0), (None, 8.0)), {0: 10e9, 2: 8e9}), (((None, 4.0), (None, 8.0)), {2: 8e9}), ((), {})],
)
def test_a_nodes_peak_is_the_most_that_anybody_read_from_it(read, bytes_per_s):
    machine = MachineFile(
        "here", ((90.0, 150.0), (150.0, 90.0)), bandwidth=Bandwidth(read), measured=Measured(nodes=(0, 2))
    )

    assert peaks(machine) == bytes_per_s
