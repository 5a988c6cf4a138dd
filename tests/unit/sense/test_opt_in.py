# SPDX-License-Identifier: Apache-2.0

"""Who may opt whose processes in: an off wins over all, root's word over users', the nearest among equals."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel.cgroup import Directory
from numad_py.sense import opt_in
from numad_py.sense.opt_in import PER_USER, Said

MOUNT = Path("/mount")
NAMES = ("default", "gentle", "bold")


def ruled(*, deny=(), labels=None, users=("gentle",), said=None):
    """Give rules; ``said`` is by cgroup id."""
    found = opt_in.rules(deny=deny, labels=labels or {}, profiles=NAMES, user_profiles=users)
    return replace(found, said=said or {})


def tree(labels, owners=None, shared=()):
    """Give a tree with these paths, parents first, from ``{path: label}``; cgroup ids count from 0."""
    return [
        Directory(path, number, (owners or {}).get(path, 0), label, path in shared)
        for number, (path, label) in enumerate(labels.items())
    ]


def found(labels, owners=None, rules=None, shared=()):
    return opt_in.assign(tree(labels, owners, shared), MOUNT, rules or ruled())


def jobs(labels, owners=None, rules=None):
    """Give ``{path: (profile, uid, directories)}``."""
    return {
        job.path: (job.profile, job.uid, [f"/{each.relative_to(MOUNT)}" for each in job.directories])
        for job in found(labels, owners, rules).jobs
    }


def whys(labels, owners=None, rules=None, shared=()):
    """Give why what does not count does not, by path."""
    return {word.path: word.why for word in found(labels, owners, rules, shared).words if word.why}


def test_an_unlabelled_tree_has_no_jobs():
    assert jobs({"/": None, "/a": None, "/a/b": None}) == {}


def test_a_label_makes_a_job_of_the_whole_subtree():
    labels = {"/": None, "/a": "default", "/a/b": None, "/a/b/c": None, "/ab": None}

    assert jobs(labels) == {"/a": ("default", None, ["/a", "/a/b", "/a/b/c"])}


def test_the_nearest_label_wins():
    labels = {"/": None, "/a": "default", "/a/b": "gentle", "/a/b/c": None, "/a/d": None}

    assert jobs(labels) == {
        "/a": ("default", None, ["/a", "/a/d"]),
        "/a/b": ("gentle", None, ["/a/b", "/a/b/c"]),
    }


def test_jobs_come_in_the_order_of_their_paths():
    assert list(jobs({"/": None, "/b": "default", "/a": "default"})) == ["/a", "/b"]


def test_apart_from_a_job_are_those_that_begin_below_it_and_what_is_off():
    labels = {
        "/a": "default",
        "/a/b": "default",
        "/a/b/c": "off",
        "/a/d": None,
        "/a/e": "no name",
        "/ab": "off",
    }
    told = found(labels)

    assert [opt_in.apart(told, job) for job in told.jobs] == [(1, 2), (2,)]


def test_an_off_holds_for_everything_below_it():
    labels = {
        "/": None,
        "/a": "default",
        "/a/b": "off",
        "/a/b/c": "gentle",
        "/a/b/c/d": None,
        "/e": "off",
        "/e/f": "gentle",
    }

    assert jobs(labels) == {"/a": ("default", None, ["/a"])}
    assert whys(labels) == {
        "/a/b/c": "/a/b is off, as root's directory says",
        "/e/f": "/e is off, as root's directory says",
    }


@pytest.mark.parametrize("said", [{}, {0: Said(0, "default")}])
def test_the_root_cannot_be_labelled(said):
    rules = ruled(said=said, labels={"/**": "gentle"})

    assert jobs({"/": "default", "/a": None}, rules=rules) == {"/a": ("gentle", None, ["/a"])}
    assert whys({"/": "off"}, rules=rules) == {"/": "the root cgroup cannot be labelled"}


def test_a_users_label_on_an_own_directory_makes_a_job_of_that_users_processes():
    labels = {"/": None, "/a": "gentle", "/a/b": None}

    assert jobs(labels, {"/a": 1000}) == {"/a": ("gentle", 1000, ["/a", "/a/b"])}


def test_users_may_choose_what_the_operator_allows_and_nothing_where_that_is_nothing():
    labels = {"/": None, "/a": "bold", "/b": "gentle"}
    owners = {"/a": 1000, "/b": 1000}

    assert whys(labels, owners) == {"/a": "of users the configuration's user_profiles allows gentle"}
    assert whys(labels, owners, ruled(users=())) == dict.fromkeys(
        ("/a", "/b"), "of users the configuration's user_profiles allows none"
    )


def test_roots_label_beats_those_of_users_above_and_below_it_and_on_the_same_cgroup():
    labels = {"/": None, "/u": "gentle", "/u/r": "default", "/u/r/u": "gentle", "/s": "gentle"}
    owners = {"/u": 1000, "/u/r/u": 1000, "/s": 1000}
    rules = ruled(labels={"/s": "bold"})

    assert jobs(labels, owners, rules) == {
        "/s": ("bold", None, ["/s"]),
        "/u": ("gentle", 1000, ["/u"]),
        "/u/r": ("default", None, ["/u/r", "/u/r/u"]),
    }
    assert whys(labels, owners, rules) == {
        "/u/r/u": "root's directory says default of /u/r, and root's word is stronger",
        "/s": "the configuration's /s says bold",
    }


def test_a_user_may_opt_out_below_roots_label_and_beside_it():
    labels = {"/": None, "/a": "default", "/a/u": "off", "/a/u/b": "bold", "/s": "off"}
    owners = {"/a/u": 1000, "/s": 1000}
    rules = ruled(labels={"/s": "bold"})

    assert jobs(labels, owners, rules) == {"/a": ("default", None, ["/a"])}


def test_a_user_cannot_end_what_root_denied():
    labels = {"/": None, "/a": None, "/a/u": "gentle"}

    assert jobs(labels, {"/a/u": 1000}, ruled(deny=["/a"])) == {}
    assert whys(labels, {"/a/u": 1000}, ruled(deny=["/a"])) == {
        "/a/u": "/a is off, as the configuration's /a says"
    }


def test_a_label_that_others_than_the_owner_could_have_written_does_not_count_but_an_off_does():
    labels = {"/": None, "/a": "default", "/b": "off", "/b/c": "default"}

    assert whys(labels, shared=["/a", "/b"]) == {
        "/a": "others than the directory's owner may write to it, and so could have labelled it",
        "/b/c": "/b is off, as root's directory says",
    }


def test_a_directory_of_somebody_without_a_uid_here_opts_nobody_in():
    labels = {"/": None, "/a": "gentle", "/b": "off"}

    assert list(whys(labels, {"/a": 65534, "/b": 65534})) == ["/a"]


def test_what_does_not_count_leaves_what_holds_above():
    labels = {"/": None, "/a": "default", "/a/b": "no name", "/a/c": "unknown"}

    assert jobs(labels) == {"/a": ("default", None, ["/a", "/a/b", "/a/c"])}
    assert whys(labels) == {
        "/a/b": "not the name of a profile, nor off",
        "/a/c": "the profile unknown is not among those allowed",
    }


def test_among_two_users_the_nearest_wins():
    labels = {"/": None, "/a": "gentle", "/a/b": "gentle"}

    assert jobs(labels, {"/a": 1000, "/a/b": 1001}) == {
        "/a": ("gentle", 1000, ["/a"]),
        "/a/b": ("gentle", 1001, ["/a/b"]),
    }


def test_a_pattern_gives_each_match_its_own_job_and_the_first_that_stands_wins():
    labels = dict.fromkeys(("/", "/s", "/s/job_1", "/s/job_1/step", "/s/job_2"))
    rules = ruled(labels={"/s/job_*": "default", "/s/*": "bold"})

    assert jobs(labels, rules=rules) == {
        "/s/job_1": ("default", None, ["/s/job_1", "/s/job_1/step"]),
        "/s/job_2": ("default", None, ["/s/job_2"]),
    }
    assert set(whys(labels, rules=rules).values()) == {"the configuration's /s/job_* says default"}


def test_roots_label_on_a_directory_beats_a_pattern_and_the_socket_beats_both():
    labels = {"/": None, "/a": "gentle", "/b": "gentle"}
    rules = ruled(labels={"/*": "default"}, said={2: Said(0, "bold")})

    assert {path: job[0] for path, job in jobs(labels, rules=rules).items()} == {"/a": "gentle", "/b": "bold"}


def test_a_user_may_say_through_the_socket_what_a_label_on_an_own_directory_could():
    labels = dict.fromkeys(("/", "/a", "/a/b", "/c"))
    rules = ruled(said={1: Said(1000, "gentle"), 3: Said(1000, "bold")})

    assert jobs(labels, rules=rules) == {"/a": ("gentle", 1000, ["/a", "/a/b"])}
    assert list(whys(labels, rules=rules)) == ["/c"]


def test_all_that_was_said_is_told_with_who_said_it():
    labels = {"/": None, "/a": "default", "/b": "gentle", "/c": "off"}
    rules = ruled(labels={"/c": "bold"}, said={1: Said(1000, "gentle"), 2: Said(0, "bold")})

    words = found(labels, {"/b": 1000}, rules).words

    assert [(word.path, word.profile, word.said_by, bool(word.why)) for word in words] == [
        ("/a", "default", "root's directory", False),
        ("/a", "gentle", "uid 1000 through the socket", True),
        ("/b", "bold", "root through the socket", False),
        ("/b", "gentle", "uid 1000's directory", True),
        ("/c", "off", "root's directory", False),
        ("/c", "bold", "the configuration's /c", True),
    ]


@pytest.mark.parametrize(
    "label", ["", " ", "a b", "../x", "a/b", "\\xff", "-x", "x" * 65, "default\n", "näh"]
)
def test_a_label_that_is_no_profiles_name_is_ignored_and_told(label):
    words = found({"/": None, "/a": label}).words

    assert [(word.profile, word.why) for word in words] == [(label, "not the name of a profile, nor off")]


def test_an_absurdly_long_label_is_told_in_short():
    (word,) = found({"/": None, "/a": "x" * 60_000}).words

    assert len(word.profile) == 80


def test_where_no_profiles_are_named_any_may_be():
    rules = replace(ruled(), profiles=None)

    assert jobs({"/": None, "/a": "anything"}, rules=rules) == {"/a": ("anything", None, ["/a"])}


OWN, SETUID = frozenset({1000}), frozenset({0, 1000})


@pytest.mark.parametrize(
    ("uid", "profile", "owners", "why"),
    [
        (1000, "gentle", [OWN, OWN], ""),
        (1000, "off", [OWN], ""),
        (0, "bold", [OWN, SETUID], ""),
        (0, "bold", [], ""),
        (0, "unknown", [], "the profile unknown is not among those allowed"),
        (1000, "bold", [OWN], "of users the configuration's user_profiles allows gentle"),
        (1000, "gentle", [], "there is no process in it, and so none that is yours"),
        (1000, "off", [], "there is no process in it, and so none that is yours"),
        (1000, "gentle", [OWN, SETUID], "a process in it belongs to uid 0, not to you alone"),
        (1000, "off", [frozenset({1001})], "a process in it belongs to uid 1001, not to you alone"),
        (65534, "gentle", [frozenset({65534})], "who has no uid here may not label"),
        (1000, "a b", [OWN], "not the name of a profile, nor off"),
    ],
)
def test_through_the_socket_a_user_may_label_where_every_process_is_theirs(uid, profile, owners, why):
    assert opt_in.refusal(uid, profile, owners, ruled()) == why


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"deny": ["a"]}, "deny: a: a pattern is a path"),
        ({"labels": {"/a**": "bold"}}, r"labels: /a\*\*: \*\* stands for whole components"),
    ],
)
def test_a_pattern_that_is_none_is_told_with_its_key(said, sentence):
    with pytest.raises(ValueError, match=sentence):
        ruled(**said)


def test_of_one_user_no_more_labels_count_than_may_and_offs_and_those_of_others_do():
    many = {f"/u/{number:04}": "default" for number in range(PER_USER + 9)}
    labels = {"/": None, "/u": None, **many, "/u/z": "off", "/v": "default", "/w": "default"}
    owners = dict.fromkeys([*many, "/u/z"], 1000) | {"/v": 1001}

    refused = whys(labels, owners, ruled(users=["default"]))

    assert list(refused) == list(many)[PER_USER:]
    assert set(refused.values()) == {f"of one user no more than {PER_USER} labels count"}


PATHS = ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f"]
WORDS = st.sampled_from([None, "off", "default", "gentle", "bold", "no name"])
TREES = st.fixed_dictionaries(
    {path: st.tuples(WORDS, st.sampled_from([0, 1000, 1001]), st.booleans()) for path in PATHS}
)
SAID = st.dictionaries(
    st.integers(1, 6), st.builds(Said, st.sampled_from([0, 1000]), st.sampled_from(["off", "gentle", "bold"]))
)


def above(path):
    """Give a path and all above it but the root."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts) + 1)]


@given(tree=TREES, said=SAID, labels=st.sampled_from([{}, {"/a/*": "bold"}, {"/**/b": "default"}]))
def test_whatever_is_said_no_off_is_passed_over_and_no_user_gets_what_root_or_another_user_said(
    tree, said, labels
):
    directories = [
        Directory(path, number, owner, label, shared)
        for number, path in enumerate(PATHS)
        for label, owner, shared in [tree[path]]
    ]
    rules = ruled(said=said, labels=labels)

    result = opt_in.assign(directories, MOUNT, rules)

    words = {path: [word for word in result.words if word.path == path] for path in PATHS}
    covered = [f"/{each.relative_to(MOUNT)}" for job in result.jobs for each in job.directories]
    assert len(covered) == len(set(covered))
    for job in result.jobs:
        (top,) = (word for word in words[job.path] if not word.why)
        assert (top.profile, top.uid) == (job.profile, job.uid or 0)
        assert job.uid is None or job.profile == "gentle"
        for each in (f"/{directory.relative_to(MOUNT)}" for directory in job.directories):
            on_the_path = [word for path in above(each) for word in words[path]]
            assert job.path in above(each)
            assert not any(word.profile == "off" for word in on_the_path)
            roots = [word for word in on_the_path if word.uid == 0 and not word.why]
            assert bool(roots) == (job.uid is None)
