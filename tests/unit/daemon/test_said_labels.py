# SPDX-License-Identifier: Apache-2.0

"""A label that was said counts for that cgroup, in that boot, until it is taken back or the cgroup is gone."""

import pytest
from structlog.testing import capture_logs

from numad_py.daemon import said_labels
from numad_py.daemon.said_labels import KeptLabel, SaidLabels, TooMany
from numad_py.sense.opt_in import Said

USER = 4711


class Host:
    """A cgroup tree, a boot id, and a state folder."""

    def __init__(self, root):
        self.root, self.mount, self.state = root, root / "cgroup", root / "state"
        for folder in (self.mount, self.state, root / "proc/sys/kernel/random"):
            folder.mkdir(parents=True)
        self.boot("one")

    def boot(self, boot_id):
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{boot_id}\n")
        self.now_s = 100.0

    def start(self):
        """Start a daemon, or another after it."""
        return SaidLabels(self.state, self.mount, self.root, lambda: self.now_s)

    def label(self, name, profile="hold", uid=USER):
        """Make a cgroup, and give a label of it."""
        directory = self.mount / name
        directory.mkdir(exist_ok=True)
        return KeptLabel(f"/{name}", directory.stat().st_ino, uid, profile)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_what_was_said_survives_a_restart(host):
    label = host.label("a")
    host.start().say(label)

    assert host.start().by_cgroup == {label.cgroup_id: Said(USER, "hold")}


def test_the_last_word_of_a_cgroup_counts(host):
    said = host.start()

    for profile in ("hold", "default"):
        said.say(host.label("a", profile))

    assert [each.profile for each in said.by_cgroup.values()] == ["default"]


def test_what_was_taken_back_does_not_return(host):
    said, label, other = host.start(), host.label("a"), host.label("b")
    said.say(label)
    said.say(other)

    said.unsay(label.cgroup_id, USER)

    assert list(said.by_cgroup) == list(host.start().by_cgroup) == [other.cgroup_id]


def test_another_boot_has_other_cgroups(host):
    host.start().say(host.label("a"))
    host.boot("two")

    assert host.start().by_cgroup == {}


def test_a_cgroup_that_is_gone_is_forgotten_though_another_has_its_path(host):
    host.start().say(host.label("a"))
    (host.mount / "a").rename(host.mount / "gone")
    (host.mount / "a").mkdir()

    assert host.start().by_cgroup == {}


def test_what_is_gone_is_not_kept_for_ever(host):
    said = host.start()
    said.say(host.label("a"))
    (host.mount / "a").rmdir()

    said.say(label := host.label("b"))

    assert list(said.by_cgroup) == [label.cgroup_id]


def test_no_user_fills_the_disk_but_root_may_label_any_number(host, monkeypatch):
    monkeypatch.setattr(said_labels, "PER_USER", 2)
    said = host.start()
    for name in ("a", "b", "b"):
        said.say(host.label(name))

    with pytest.raises(TooMany, match="you have labelled 2 cgroups, and no user may label more"):
        said.say(host.label("c"))

    said.say(host.label("c", uid=USER + 1))
    for name in ("d", "e", "f"):
        said.say(host.label(name, uid=0))
    assert len(said.by_cgroup) == 6


def test_what_is_said_already_is_not_written_again(host):
    said = host.start()
    first = said.say(host.label("a"))
    (host.state / "labels.json").unlink()

    again = said.say(host.label("a"))

    assert (first, again, list(host.state.iterdir())) == (True, False, [])


def test_no_user_changes_labels_faster_than_so_many_a_minute_and_others_and_root_go_on(host, monkeypatch):
    monkeypatch.setattr(said_labels, "PER_MINUTE", 3)
    said, label = host.start(), host.label("a")
    said.say(label)
    said.unsay(label.cgroup_id, USER)
    said.say(label)
    host.now_s += 22.5

    for change in (lambda: said.unsay(label.cgroup_id, USER), lambda: said.say(host.label("b"))):
        with pytest.raises(TooMany, match="you have changed 3 labels within a minute: try again in 38 s"):
            change()

    said.say(host.label("b", uid=USER + 1))
    for profile in ("hold", "default", "hold", "default"):
        said.say(host.label("c", profile, uid=0))
    host.now_s += 37.5
    assert said.say(host.label("d"))
    assert [each.path for each in said.all] == ["/a", "/b", "/c", "/d"]


def test_a_file_that_cannot_be_read_is_put_aside(host):
    (host.state / "labels.json").write_text("garbage")

    with capture_logs():
        assert host.start().by_cgroup == {}
