# SPDX-License-Identifier: Apache-2.0

"""A pattern matches the top-most cgroup of a path that fits it, and nothing in a name can make that slow."""

import time

import pytest

from numad_py.sense import patterns


def matches(texts, path):
    """Give the texts that match on the way to a path, each with the path that it matched."""
    states = tuple((patterns.compiled(text, "default"), 0) for text in texts)
    found, walked = [], ""
    for name in path.split("/")[1:]:
        walked += f"/{name}"
        states, matched = patterns.below(states, name)
        found += [(pattern.text, walked) for pattern in matched]
    return found


@pytest.mark.parametrize(
    ("text", "path", "match"),
    [
        ("/a", "/a/b", "/a"),
        ("/a", "/ab", None),
        ("/a/b", "/a", None),
        ("/a/*", "/a/b/c", "/a/b"),
        ("/*/b", "/a/b", "/a/b"),
        ("/*/b", "/a/x/b", None),
        ("/a/**", "/a", None),
        ("/a/**", "/a/b/c/d", "/a/b"),
        ("/**/b", "/b", "/b"),
        ("/**/b", "/a/x/b/b", "/a/x/b"),
        ("/a/**/d", "/a/d", "/a/d"),
        ("/a/**/d", "/a/b/c/d", "/a/b/c/d"),
        ("/**/a/**/b", "/x/a/y/a/b", "/x/a/y/a/b"),
        ("/**/**/b", "/a/b", "/a/b"),
        ("/job_[0-9]?", "/job_17", "/job_17"),
        ("/job_[0-9]?", "/job_1", None),
        ("/[!s]*", "/system.slice", None),
        (r"/dev\x2dhugepages.mount", r"/dev\x2dhugepages.mount", r"/dev\x2dhugepages.mount"),
        ("/a.b", "/aXb", None),
        ("/*", "/a\nb", "/a\nb"),
        # Slurm, plugin cgroup/v2, and the older naming
        ("/system.slice/slurmstepd.scope/job_*", "/system.slice/slurmstepd.scope/job_7/step_0/user", 3),
        ("/system.slice/*_slurmstepd.scope/job_*", "/system.slice/node1_slurmstepd.scope/job_7/step_0", 3),
        ("/slurm/uid_*/job_*", "/slurm/uid_1000/job_7/step_batch", 3),
        # Kubernetes: systemd's and cgroupfs's driver; by class of service, and one pod
        (
            "/kubepods.slice/kubepods-burstable.slice/**",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-f.scope",
            3,
        ),
        (
            "/kubepods.slice/kubepods-pod*.slice",
            "/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-f.scope",
            2,
        ),
        (
            "/kubepods.slice/**/kubepods-*pod1_2.slice",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            3,
        ),
        ("/kubepods/besteffort/*", "/kubepods/besteffort/pod1-2/f00", 3),
        ("/kubepods/**/pod1-2", "/kubepods/burstable/pod1-2/f00", 3),
        ("/kubepods/**/pod1-2", "/kubepods/pod1-2/f00", 2),
        # systemd
        (
            "/user.slice/**/train-*.scope",
            "/user.slice/user-7.slice/user@7.service/app.slice/train-1.scope",
            5,
        ),
    ],
)
def test_a_pattern_matches_the_top_most_cgroup_that_fits(text, path, match):
    if isinstance(match, int):
        match = "/".join(path.split("/")[: match + 1])

    assert matches([text], path) == ([(text, match)] if match else [])


def test_every_pattern_that_fits_is_told_in_the_order_in_which_they_stand():
    assert matches(["/**/b", "/a/*", "/a/b/c"], "/a/b/c") == [
        ("/**/b", "/a/b"),
        ("/a/*", "/a/b"),
        ("/a/b/c", "/a/b/c"),
    ]


@pytest.mark.parametrize("text", ["", "/", "a", "a/b", "//a", "/a/", "/a/../b", "/./a", "/a**", "/a/**b/c"])
def test_what_is_no_pattern_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match=r"stands for|a pattern is a path"):
        patterns.compiled(text, "default")


def test_no_name_that_a_user_may_choose_makes_matching_slow():
    stars = "/" + "*a" * 30 + "b"
    began_s = time.process_time()

    found = matches([stars, "/**/**/**/**/b"], "/" + "a" * 255 + "/a" * 200)

    assert found == []
    assert time.process_time() - began_s < 10
