# SPDX-License-Identifier: Apache-2.0

"""Of a process that is not looked at, one sentence says why, and what can be done about it."""

from dataclasses import replace

import pytest

from numad_py.daemon.unseen import why_unseen
from numad_py.model import LookCost, ProcessKey, Skipped
from numad_py.sense import opt_in
from numad_py.sense.jobs import Jobs
from tests.builders import snapshot
from tests.fake_root import FakeRoot, stat

KTHREAD = 0x0020_0000


@pytest.fixture
def fake(tmp_path):
    return FakeRoot(tmp_path)


def why(fake, *, path="/job", seen=None, profiles=("default",), **rules):
    """Say why process 100, in that cgroup, is not looked at."""
    fake.process(100)
    fake.write("proc/100/cgroup", f"0::{path}\n")
    jobs = Jobs(
        fake.mount,
        opt_in.rules(**{"deny": (), "labels": {}, "profiles": ("default",), "user_profiles": ()} | rules),
    )
    jobs.find()
    return why_unseen(100, jobs, seen, profiles, fake.root)


def test_of_what_is_not_labelled_it_says_how_to_label_it(fake):
    assert why(fake) == (
        "process 100 is not labelled, nor is its cgroup /job or any above that: "
        "numad-py label 100 default opts it in"
    )


def test_to_whom_no_profile_is_allowed_it_says_so(fake):
    assert why(fake, profiles=()).endswith(
        "above that: only root may label it, since user_profiles names nothing"
    )


def test_of_the_root_cgroup_it_says_to_leave_it(fake):
    assert "in the root cgroup, which cannot be labelled: start it in one of its own" in why(fake, path="/")


def test_of_what_is_off_it_says_who_says_so(fake):
    (fake.mount / "job").mkdir()

    said = why(fake, path="/job/step", deny=["/job"])

    assert (
        said
        == "process 100 is off, as the configuration's /job says of /job; numad-py label tells who said what"
    )


def test_of_a_label_that_does_not_count_it_says_why(fake):
    fake.job(label="nonsense")

    assert why(fake) == (
        "the label nonsense of /job does not count for process 100: the profile nonsense is not among those allowed"
    )


def test_of_a_new_job_it_says_to_wait_for_the_next_look(fake):
    fake.job()

    assert "belongs to the job /job, and has not been looked at yet" in why(fake, path="/job/step")


def test_a_job_whose_name_only_begins_alike_is_another_one(fake):
    fake.job()

    assert "is not labelled" in why(fake, path="/job2")


def test_of_who_was_skipped_it_says_why(fake):
    seen = snapshot(skipped=[Skipped(ProcessKey(99, 7), "", "no"), Skipped(ProcessKey(100, 7), "", "EACCES")])

    assert why(fake, seen=seen) == "process 100 is skipped: EACCES"


def test_of_who_was_put_off_it_says_what_for(fake):
    seen = replace(snapshot(), cost=LookCost(postponed=(ProcessKey(100, 7),)))

    assert "put off, since looking took all of budget_core_share" in why(fake, seen=seen)


def test_a_kernel_thread_has_nothing_to_move(fake):
    fake.process(100)
    line = stat(100).split(") ")
    fields = line[1].split()
    fields[6] = str(KTHREAD)
    fake.write("proc/100/stat", f"{line[0]}) {' '.join(fields)}\n")

    assert (
        why_unseen(100, None, None, (), fake.root)
        == "100 is a kernel thread, and has no memory of its own to move"
    )


def test_of_a_thread_it_says_whose_it_is(fake):
    folder = fake.process(100)
    (folder / "status").write_text("Name:\tx\nTgid:\t99\n")

    assert why_unseen(100, None, None, (), fake.root) == "100 is a thread of process 99: ask about that one"


def test_without_cgroup_v2_it_says_so(fake):
    fake.process(100)
    fake.write("proc/100/cgroup", "1:memory:/job\n")

    assert "is in no cgroup of v2" in why_unseen(100, None, None, (), fake.root)
