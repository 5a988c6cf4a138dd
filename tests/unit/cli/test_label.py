# SPDX-License-Identifier: Apache-2.0

"""``numad-py label`` writes labels, tells of all of them, and says in a sentence what it cannot do."""

import json
import os

import pytest

from numad_py.cli import label
from numad_py.cli.label import put, show
from numad_py.kernel import cgroup
from numad_py.profile import ProfileError
from numad_py.sense import opt_in
from tests.fake_root import FakeRoot

RULES = opt_in.rules(
    deny=["/denied"], labels={"/jobs/*": "hold"}, profiles=["default", "hold"], user_profiles=["default"]
)
OWN = "root's directory"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Hold a machine whose cgroup tree takes labels, and where no daemon runs."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    fake = FakeRoot(tmp_path)
    fake.job("train", label="default")
    cgroup.set_label(fake.mount / "train", None)
    return fake


def label_of(fake, path="train"):
    return cgroup.label_of(fake.mount / path)


def said(capsys, call, *words, **options):
    call(*words, RULES, **options)
    return capsys.readouterr().out.splitlines()


def refusal(error, fake, target, profile="default", *, by_user=False):
    with pytest.raises(error) as refused:
        put(target, profile, RULES, by_user=by_user, root=fake.root)
    assert label_of(fake) is None
    return str(refused.value)


@pytest.mark.parametrize("target", ["/train", "train", "train/", "{mount}/train", "7"])
def test_a_cgroup_is_named_by_its_path_or_by_a_process_in_it(fake, capsys, target):
    fake.write("proc/7/cgroup", "3:cpuset:/other\n0::/train\n")

    lines = said(capsys, put, target.format(mount=fake.mount), "default", by_user=False, root=fake.root)

    assert (label_of(fake), lines) == ("default", [f"/train  default  {OWN}  counts"])


def test_a_label_is_taken_off(fake, capsys):
    cgroup.set_label(fake.mount / "train", "default")

    lines = said(capsys, put, "train", None, by_user=False, root=fake.root)

    assert (label_of(fake), lines) == (None, ["/train bears no label"])


def test_a_label_that_will_not_count_is_written_and_that_is_told(fake, capsys):
    (fake.mount / "denied/inner").mkdir(parents=True)

    lines = said(capsys, put, "denied/inner", "default", by_user=False, root=fake.root)

    assert label_of(fake, "denied/inner") == "default"
    assert lines == [
        f"/denied/inner  default  {OWN}  does not count: /denied is off, as the configuration's /denied says"
    ]


@pytest.mark.parametrize(
    ("profile", "by_user", "told"),
    [
        ("nonsense", False, "'nonsense': the profile nonsense is not among those allowed"),
        ("hold", True, "'hold': of users the configuration's user_profiles allows default"),
        ("; rm -rf /", True, "'; rm -rf /': not the name of a profile, nor off"),
        ("../x", False, "'../x': not the name of a profile, nor off"),
        ("", False, "'': not the name of a profile, nor off"),
    ],
)
def test_a_profile_that_may_not_be_named_is_refused(fake, profile, by_user, told):
    assert refusal(ProfileError, fake, "train", profile, by_user=by_user) == told


def test_everybody_may_say_off(fake, capsys):
    said(capsys, put, "train", "off", by_user=True, root=fake.root)

    assert label_of(fake) == "off"


@pytest.mark.parametrize("target", ["/", "{mount}", "7"])
def test_the_root_cgroup_cannot_be_labelled(fake, target):
    fake.write("proc/7/cgroup", "0::/\n")

    told = refusal(PermissionError, fake, target.format(mount=fake.mount))

    assert told.endswith("is the root cgroup, which cannot be labelled")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/none", "/none: there is no cgroup none below {mount}"),
        ("train/../train", "train/../train: there is no cgroup train/../train below {mount}"),
        ("/train/cgroup.procs", "/train/cgroup.procs: there is no cgroup train/cgroup.procs below {mount}"),
        ("9", "the cgroup of process 9: there is no cgroup gone (deleted) below {mount}"),
        ("10", "the cgroup of process 10: there is no cgroup ../../x below {mount}"),
    ],
)
def test_a_cgroup_that_is_not_there_is_told(fake, target, told):
    fake.write("proc/9/cgroup", "0::/gone (deleted)\n")
    fake.write("proc/10/cgroup", "0::/../../x\n")  # outside of the cgroup namespace that we are in

    assert refusal(FileNotFoundError, fake, target) == told.format(mount=fake.mount)


def test_a_process_that_is_not_there_is_told(fake):
    assert "no such process" in refusal(ProcessLookupError, fake, "8")


@pytest.fixture
def refused(fake, monkeypatch):
    """Let no attribute be written."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "removexattr", refuse)


@pytest.fixture
def daemon(monkeypatch):
    """Hold a daemon that takes any label; give what it was asked for."""
    asked = []
    monkeypatch.setattr(label, "ask", lambda method, **words: asked.append((method, words)))
    return asked


@pytest.mark.usefixtures("refused")
def test_who_may_not_label_a_cgroup_is_told_who_may_and_that_no_daemon_helps(fake):
    told = refusal(PermissionError, fake, "train")

    assert told == (
        "/train belongs to uid 0: only root and its owner may label it; and through the daemon: "
        f"the daemon is not running: nothing listens at {fake.root}/control"
    )


@pytest.mark.usefixtures("refused")
def test_what_may_not_be_written_the_daemon_is_asked_to_keep(fake, daemon, capsys):
    lines = said(capsys, put, "train", "default", by_user=True, root=fake.root)
    lines += said(capsys, put, "train", None, by_user=True, root=fake.root)

    assert daemon == [
        ("SetLabel", {"cgroup": "/train", "profile": "default"}),
        ("SetLabel", {"cgroup": "/train", "profile": None}),
    ]
    assert lines == [
        "/train  default, as the daemon was told; numad-py status shows what holds",
        "/train  no longer what the daemon was told; numad-py status shows what holds",
    ]


def test_taking_a_label_off_takes_off_what_the_daemon_was_told_too(fake, daemon, capsys):
    cgroup.set_label(fake.mount / "train", "default")

    said(capsys, put, "train", None, by_user=False, root=fake.root)

    assert label_of(fake) is None
    assert daemon == [("SetLabel", {"cgroup": "/train", "profile": None})]


def test_a_kernel_that_takes_no_labels_is_told(fake, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)

    assert "since Linux 5.7" in refusal(OSError, fake, "train")


def test_without_a_label_that_is_told(fake, capsys):
    assert said(capsys, show, as_json=False, root=fake.root) == ["no cgroup is labelled"]
    assert said(capsys, show, as_json=True, root=fake.root) == ["[]"]


def test_all_labels_are_told_with_who_said_so_and_whether_they_count(fake, capsys):
    for path in ("denied/a", "jobs/7", "user", "\x1b[31m"):
        (fake.mount / path).mkdir(parents=True)
    for path in ("train", "denied/a", "user", "\x1b[31m"):
        cgroup.set_label(fake.mount / path, "default")
    os.chown(fake.mount / "user", 1000, 1000)

    lines = said(capsys, show, as_json=False, root=fake.root)
    values = json.loads("\n".join(said(capsys, show, as_json=True, root=fake.root)))

    assert lines == [
        r"/\x1b[31m  default  root's directory             counts",
        "/denied    off      the configuration's /denied  counts",
        "/denied/a  default  root's directory             does not count: /denied is off, as the configuration's /denied says",
        "/jobs/7    hold     the configuration's /jobs/*  counts",
        "/train     default  root's directory             counts",
        "/user      default  uid 1000's directory         counts",
    ]
    assert [(value["path"], value["uid"], value["counts"]) for value in values] == [
        (r"/\x1b[31m", 0, True),
        ("/denied", 0, True),
        ("/denied/a", 0, False),
        ("/jobs/7", 0, True),
        ("/train", 0, True),
        ("/user", 1000, True),
    ]
    assert values[-1]["cgroup_id"] == cgroup.cgroup_id(fake.mount / "user")


def test_what_the_daemon_was_told_is_among_the_labels(fake, monkeypatch):
    number = cgroup.cgroup_id(fake.mount / "train")
    told = {"path": "/train", "cgroup_id": number, "uid": 1000, "profile": "off"}
    monkeypatch.setattr(label, "ask", lambda method: {"labels": [told]} if method == "Labels" else None)

    assert label.said() == {number: opt_in.Said(1000, "off")}


def test_where_no_daemon_runs_it_was_told_nothing(fake):
    assert label.said() == {}
