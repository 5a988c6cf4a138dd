# SPDX-License-Identifier: Apache-2.0

"""Whatever the order of changes, forks, rebinding and crashes: who was unbound is so again, and the rest is its owner's.

The machine is one of files and numbers, with Linux's rules for masks and cpusets: those of 6.2, and those before.
"""

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numad_py.act.affinity_journal import Affinities, AffinityJournal, Narrowed
from numad_py.act.gate import Gate
from numad_py.act.masks import Masks, Thread
from numad_py.act.tasks import TaskMover
from numad_py.model import MoveTasks, ProcessKey, Reason
from numad_py.workers import Workers
from tests.fake_root import FakeRoot, stat

CPUS = frozenset(range(6))
ISOLATED = frozenset({5})
NODES = {0: "0-1", 1: "2-3", 2: "4-5"}
BOOT = "0d5f8b7e"


class Crashed(BaseException):
    """The daemon was killed."""


class Kernel:
    """Threads by their one process each; what they asked for, and what their cpuset allows of that.

    ``keeps`` says whether what they asked for outlives a change of the cpuset.
    """

    def __init__(self, folder, *, keeps):
        self.keeps = keeps
        self.fake = FakeRoot(folder)
        self.directory = self.fake.mount / "job"
        self.directory.mkdir()
        for name, text in (("online", "0-5"), ("possible", "0-7"), ("isolated", "5")):
            self.fake.write(f"sys/devices/system/cpu/{name}", text)
        for node, cpus in NODES.items():
            self.fake.write(f"sys/devices/system/node/node{node}/cpulist", cpus)
        self.asked = {}  # by TID; what is missing asked for nothing
        self.owned = set()  # those whose owner chose, and who is born of them
        self.tids = []
        self.allow(CPUS)
        self.born()

    def cpuset(self, cpus):
        self.allow(cpus)
        if not self.keeps:
            self.asked = dict.fromkeys(self.tids, CPUS)

    def allow(self, cpus):
        self.allowed = cpus
        for name, text in (("cpus", ",".join(map(str, sorted(cpus)))), ("mems", "0-2")):
            (self.directory / f"cpuset.{name}.effective").write_text(text)

    def born(self, parent=None):
        tid = 100 + len(self.tids)
        self.tids.append(tid)
        if parent in self.asked:
            self.asked[tid] = self.asked[parent]
        if parent in self.owned:
            self.owned.add(tid)
        self.fake.write(f"proc/{tid}/stat", stat(tid))
        self.fake.write(f"proc/{tid}/task/{tid}/stat", stat(tid))
        self.fake.write(f"proc/{tid}/cgroup", "0::/job\n")
        (self.directory / "cgroup.threads").write_text("".join(f"{each}\n" for each in self.tids))

    def mask(self, tid):
        return self.asked.get(tid, CPUS - ISOLATED) & self.allowed or self.allowed

    def ask(self, tid, cpus):
        self.asked[tid] = frozenset(cpus)

    def below(self, cpus):
        """Begin a cgroup below the job's, with one thread that has these CPUs; give its id and the thread's."""
        directory = self.directory / "db"
        (directory / "further").mkdir(parents=True)
        (directory / "further/cgroup.threads").write_text("900\n")
        self.ask(900, cpus)
        return directory.stat().st_ino, 900

    def rebind(self, tid, cpus):
        self.ask(tid, cpus)
        self.owned.add(tid)


class Daemon:
    """The journal and the mover; ``left`` is how many more writes and changes there are before it is killed."""

    def __init__(self, kernel):
        self.kernel, self.left, self.disk = kernel, None, None
        self.apart = ()
        self.start()

    def start(self):
        kept = msgspec.json.decode(self.disk, type=Affinities) if self.disk else None
        masks = Masks(self.kernel.fake.mount, self.kernel.fake.root)
        self.journal = AffinityJournal(masks, BOOT, kept, self.save)
        self.mover = TaskMover(self.journal, self.job_of, Workers(), Gate(), self.kernel.fake.root)

    def job_of(self, _process):
        directory = self.kernel.directory
        return Narrowed(directory.stat().st_ino, str(directory), apart=self.apart)

    def save(self, affinities):
        self.step()
        self.disk = msgspec.json.encode(affinities)

    def change(self, tid, cpus):
        self.step()
        self.kernel.ask(tid, cpus)

    def step(self):
        if self.left == 0:
            raise Crashed
        self.left = None if self.left is None else self.left - 1

    def move(self, tid, nodes):
        wish = MoveTasks(ProcessKey(tid, 7), nodes, Reason.SPREAD)
        self.mover.move([wish], time.monotonic() + 60)


class Held:
    """Stands for a process that is held: no pidfd is of use here."""

    has_ended = False

    def __init__(self, key):
        self.key = key

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@contextmanager
def machine(*, keeps=True):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        kernel = Kernel(Path(folder), keeps=keeps)
        daemon = Daemon(kernel)
        patch.setattr(os, "sched_getaffinity", kernel.mask)
        patch.setattr(os, "sched_setaffinity", daemon.change)
        patch.setattr("numad_py.act.tasks.HeldProcess", Held)
        yield kernel, daemon


who = st.integers(0, 5)
some_nodes = st.sets(st.sampled_from(sorted(NODES)), min_size=1).map(lambda nodes: tuple(sorted(nodes)))
# What owners choose is never what a node has: what we gave a thread cannot be told from the very same of its owner.
owners = st.sampled_from([frozenset({0}), frozenset({1, 2}), frozenset({3}), frozenset({0, 4})])
daemons = st.one_of(
    st.tuples(st.just("move"), who, some_nodes),
    st.tuples(st.just("fork"), who),
    st.tuples(st.just("tidy")),
    st.tuples(st.just("restore")),
    st.tuples(st.just("crash"), st.integers(0, 3)),
    st.tuples(st.just("start")),
)
rebinds = st.tuples(st.just("rebind"), who, owners)
cpusets = st.tuples(st.just("cpuset"), st.sets(st.sampled_from(sorted(CPUS)), min_size=1).map(frozenset))


def take(kernel, daemon, step):
    """Take one step; a killed daemon starts again, and restores first."""
    word, *words = step
    tid = kernel.tids[words[0] % len(kernel.tids)] if word in {"move", "fork", "rebind"} else None
    try:
        if word == "move":
            daemon.move(tid, words[1])
        elif word == "fork":
            kernel.born(tid)
        elif word == "rebind":
            kernel.rebind(tid, words[1])
        elif word == "cpuset":
            kernel.cpuset(words[0])
        elif word == "tidy":
            daemon.journal.tidy()
        elif word == "restore":
            daemon.journal.restore()
        elif word == "crash":
            daemon.left = words[0]
        else:
            daemon.start()
    except Crashed:
        daemon.left = None
        daemon.start()
        daemon.journal.restore()


@settings(max_examples=150)
@given(st.lists(daemons | rebinds, max_size=14))
def test_restoring_gives_each_thread_what_it_had_or_leaves_what_its_owner_chose(run):
    with machine() as (kernel, daemon):
        for step in run:
            take(kernel, daemon, step)
            chosen = {tid: kernel.mask(tid) for tid in kernel.owned}
        daemon.left = None

        daemon.start()
        daemon.journal.restore()

        for tid in kernel.tids:
            expected = chosen[tid] if tid in kernel.owned else CPUS - ISOLATED
            assert kernel.mask(tid) == expected, (tid, run)


@settings(max_examples=100)
@given(st.booleans(), st.lists(daemons | cpusets, max_size=14))
def test_whatever_the_cpuset_was_meanwhile_no_thread_stays_narrow(keeps, run):
    with machine(keeps=keeps) as (kernel, daemon):
        for step in run:
            take(kernel, daemon, step)
        daemon.left = None

        daemon.start()
        daemon.journal.restore()
        kernel.allow(CPUS)

        assert {kernel.mask(tid) for tid in kernel.tids} <= {CPUS, CPUS - ISOLATED}, run


@pytest.mark.parametrize(
    "cpusets",
    [
        pytest.param([{0, 1}], id="to what it was narrowed to, which hides it"),
        pytest.param([{2, 3}], id="to where it was not, which hides it"),
        pytest.param([{1, 2, 3}], id="to a part"),
        pytest.param([{2, 3}, {0, 1, 2}], id="away, and back"),
    ],
)
def test_what_the_cpuset_hid_for_a_while_is_given_back_too(cpusets):
    """Else it would be narrow again as soon as the cpuset is as wide as it was."""
    with machine() as (kernel, daemon):
        daemon.move(kernel.tids[0], (0,))
        kernel.born(kernel.tids[0])
        for cpus in cpusets:
            kernel.cpuset(frozenset(cpus))
            daemon.journal.tidy()

        daemon.start()
        daemon.journal.restore()
        kernel.cpuset(CPUS)

        assert [kernel.mask(tid) for tid in kernel.tids] == [CPUS - ISOLATED] * 2


def test_threads_that_had_other_cpus_before_are_not_mixed_up():
    """One began without the isolated CPU; the other was put into a cpuset since, which has it."""
    with machine() as (kernel, daemon):
        kernel.born()
        first, other = kernel.tids
        kernel.ask(other, CPUS)
        daemon.move(first, (0,))

        daemon.move(other, (0,))
        daemon.move(other, (1,))
        narrowed = kernel.mask(other)
        daemon.journal.restore()

        assert narrowed == {2, 3}
        assert (kernel.mask(first), kernel.mask(other)) == (CPUS - ISOLATED, CPUS)


def test_a_mask_is_borne_as_far_as_the_cpuset_lets_it_be_seen():
    allowed = frozenset({1, 2, 3, 5})

    seen = {
        cpus: Thread(1, frozenset(cpus), allowed, ISOLATED).bears(frozenset({0, 1}))
        for cpus in [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 5)]
    }

    assert seen == {(1,): True, (1, 2): False, (1, 2, 3): False, (1, 2, 3, 5): False}


def test_what_its_owner_bound_in_a_cgroup_apart_hinders_no_move_and_stays_bound():
    """Be it off, or another job's."""
    with machine() as (kernel, daemon):
        apart, other = kernel.below({0, 1})
        daemon.apart = (apart,)
        daemon.move(kernel.tids[0], (0,))
        narrowed = kernel.mask(kernel.tids[0])

        daemon.start()
        daemon.journal.restore()

        assert narrowed == {0, 1}
        assert (kernel.mask(kernel.tids[0]), kernel.mask(other)) == (CPUS - ISOLATED, {0, 1})


@pytest.mark.parametrize("turns", [(True, False), (False, True)], ids=["it joined since", "it left since"])
def test_what_was_of_the_job_when_any_mask_was_set_is_restored_wherever_it_belongs_now(turns):
    with machine() as (kernel, daemon):
        number, child = kernel.below({4})
        for node, is_apart in enumerate(turns):
            daemon.apart = (number,) if is_apart else ()
            daemon.move(kernel.tids[0], (node,))
        kernel.ask(child, kernel.mask(kernel.tids[0]))  # it is born of the first, and put there

        daemon.journal.restore()

        assert kernel.mask(child) == CPUS - ISOLATED


def test_a_cgroup_that_goes_while_it_is_looked_for_ends_no_restoring(monkeypatch):
    with machine() as (kernel, daemon):
        apart, _ = kernel.below({4})
        daemon.apart = (apart,)
        daemon.move(kernel.tids[0], (0,))
        monkeypatch.setattr(os, "walk", lambda top: [(f"{top}/gone", [], []), (str(top), [], [])])

        daemon.journal.restore()

        assert kernel.mask(kernel.tids[0]) == CPUS - ISOLATED
