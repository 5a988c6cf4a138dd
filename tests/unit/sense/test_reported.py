# SPDX-License-Identifier: Apache-2.0

"""What processes say of their progress adds up by job, and nobody's word moves another job."""

import pytest

from numad_py.rhythm import REPORTS, Rhythm
from numad_py.sense.reported import MOST_PROCESSES, Reported
from tests.builders import job, process

ONE, OTHER = job(process(1), cgroup_id=1), job(process(2), cgroup_id=2)


def told(reported, *words, pids=None, time_s=10.0):
    """Give what jobs have come to after one look."""
    for pid, word in words:
        reported.hear(pid, word, time_s)
    reported.look(pids or {1: (1, 11), 2: (2,)})
    return [reported.of(each, time_s + 1.5) for each in (ONE, OTHER)]


def test_a_job_that_says_nothing_has_no_progress():
    one, other = told(Reported(), (99, b"5"))

    assert one is ONE
    assert other.progress is None


def test_progress_counts_from_the_first_word_on_and_tells_its_age():
    reported = Reported()

    begun = told(reported, (1, b"1000"))[0]
    one = told(reported, (1, b"1004"), (1, b"1007.5\n"), time_s=20.0)[0]
    later = told(reported, time_s=25.0)[0]

    assert (begun.progress, one.progress) == (0.0, 7.5)
    assert (one.progress_age_s, later.progress_age_s) == (1.5, 6.5)


def test_processes_of_a_job_add_up_and_one_that_ends_or_begins_anew_takes_nothing_away():
    reported = Reported()
    told(reported, (1, b"10"), (11, b"100"))
    told(reported, (1, b"13"), (11, b"101"))

    one = told(reported, (1, b"0"), pids={1: (1,)})[0]
    again = told(reported, (1, b"2"), (11, b"500"))[0]

    assert (one.progress, again.progress) == (4.0, 6.0)


def test_a_job_that_is_gone_is_forgotten():
    reported = Reported()
    told(reported, (1, b"10"))

    told(reported, pids={2: (2,)})

    assert told(reported)[0].progress is None


def test_what_is_no_number_or_too_far_is_passed_over():
    reported = Reported()

    one = told(reported, *((1, word) for word in (b"", b"nan", b"inf", b"-inf", b"1e300", b"\xff", b"x")))[0]

    assert one.progress is None


def test_no_more_processes_are_listened_to_than_a_few():
    reported = Reported()
    crowd = [(pid, b"1") for pid in range(100, 100 + MOST_PROCESSES)]

    crowded = told(reported, *crowd, (1, b"1"))[0]
    heard = told(reported, (1, b"1"))[0]

    assert (crowded.progress, heard.progress) == (None, 0.0)


def ended(reported, pid, count=REPORTS, slack=b"0.04"):
    for step in range(count):
        reported.hear(pid, b"%d %b" % (step, slack), 10 + 0.25 * step)


def test_words_that_end_steps_have_a_rhythm_and_count_as_progress():
    reported = Reported()
    ended(reported, 1, 1)
    begun = told(reported)[0]

    ended(reported, 1)
    one = told(reported)[0]

    assert (begun.progress, one.progress) == (0.0, REPORTS - 1)
    assert reported.rhythm(1) == Rhythm(0.25, 0.04, 10 + 0.25 * (REPORTS - 1))
    assert reported.rhythm(2) is None


@pytest.mark.parametrize("slack", [b"", b"-1", b"nan", b"inf"], ids=["none", "negative", "nan", "infinite"])
def test_without_slack_that_is_a_time_there_is_no_rhythm(slack):
    reported = Reported()

    ended(reported, 1, slack=slack)

    assert reported.rhythm(1) is None
    assert told(reported)[0].progress == 0.0


def test_the_rhythm_of_a_process_that_is_gone_is_forgotten():
    reported = Reported()
    ended(reported, 1)
    ended(reported, 2)

    told(reported, pids={2: (2,)})

    assert reported.rhythm(1) is None
    assert reported.rhythm(2)
