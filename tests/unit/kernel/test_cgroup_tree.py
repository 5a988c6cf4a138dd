# SPDX-License-Identifier: Apache-2.0

"""A tree is known as it is at every refresh, and is walked again only where nobody tells what changed."""

import errno
import itertools
import os
from types import SimpleNamespace

import pytest
from inotify_simple import INotify, flags

from numad_py.kernel import cgroup, cgroup_tree
from numad_py.kernel.cgroup_tree import Tree


@pytest.fixture
def mount(tmp_path):
    for path in ("a/b", "c"):
        (tmp_path / path).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def tree(mount):
    tree = Tree(mount)
    yield tree
    tree.close()


@pytest.fixture
def walks(monkeypatch):
    """Give the paths from which a tree was walked down."""
    tops = []
    walk = cgroup.walk

    def noted(mount, top, before):
        tops.append(top)
        return walk(mount, top, before)

    monkeypatch.setattr(cgroup, "walk", noted)
    return tops


def paths(tree):
    return [directory.path for directory in tree.directories]


def refuse(monkeypatch, error, *, after):
    """Let inotify refuse to watch more than so many."""
    watches = itertools.count()

    class Refusing(INotify):
        def add_watch(self, path, mask):
            if next(watches) >= after:
                raise OSError(error, os.strerror(error))
            return super().add_watch(path, mask)

    monkeypatch.setattr(cgroup_tree, "INotify", Refusing)


def test_the_tree_is_known_from_the_start(tree):
    assert paths(tree) == ["/", "/a", "/a/b", "/c"]
    assert tree.problem == ""


def test_where_nothing_happened_nothing_is_looked_at(tree, walks, monkeypatch):
    monkeypatch.delattr(cgroup, "look")

    assert not tree.refresh()
    assert walks == []


def test_what_was_made_is_found_with_what_is_below_it_and_nothing_else_is_walked(tree, mount, walks):
    (mount / "a/new/below").mkdir(parents=True)

    assert tree.refresh()
    assert paths(tree) == ["/", "/a", "/a/b", "/c", "/a/new", "/a/new/below"]
    assert walks == ["/a/new"]


def test_what_was_made_below_what_was_found_is_found(tree, mount):
    (mount / "new").mkdir()
    tree.refresh()
    (mount / "new/below").mkdir()
    tree.refresh()

    assert paths(tree)[-2:] == ["/new", "/new/below"]


def test_what_went_is_forgotten_and_no_longer_watched(tree, mount):
    (mount / "a/b").rmdir()
    (mount / "a").rmdir()

    assert tree.refresh()
    assert paths(tree) == ["/", "/c"]
    assert sorted(tree._watch_of) == sorted(tree._path_of.values()) == ["/", "/c"]  # noqa: SLF001 - a leak shows nowhere else


def test_what_went_and_came_again_is_another(tree, mount):
    before = {directory.path: directory.cgroup_id for directory in tree.directories}
    (mount / "a/b").rmdir()
    (mount / "a").rename(mount.parent / "kept")  # so that its inode number is not given again
    (mount / "a/b").mkdir(parents=True)

    tree.refresh()

    after = {directory.path: directory.cgroup_id for directory in tree.directories}
    assert list(after) == ["/", "/c", "/a", "/a/b"]
    assert (after["/a"] != before["/a"], after["/c"]) == (True, before["/c"])


def test_what_came_and_went_between_two_looks_does_no_harm(tree, mount):
    for number in range(50):
        (mount / f"c/{number}").mkdir()
        (mount / f"c/{number}").rmdir()

    assert tree.refresh()
    assert paths(tree) == ["/", "/a", "/a/b", "/c"]


def test_a_label_is_seen_and_nothing_else_is_walked(tree, mount, walks):
    try:
        os.setxattr(mount / "a", cgroup.LABEL, b"default")
    except OSError:
        pytest.skip("no user xattrs on the file system of tmp_path")

    assert tree.refresh()
    assert [each.label for each in tree.directories] == [None, "default", None, None]
    assert walks == []


def test_another_mode_is_seen(tree, mount):
    (mount / "c").chmod(0o777)

    assert tree.refresh()
    assert [each.shared for each in tree.directories] == [False, False, False, True]


def test_what_happens_to_files_is_nothing(tree, mount):
    (mount / "a/file").touch()
    (mount / "a/file").chmod(0o600)
    (mount / "a/file").unlink()

    assert not tree.refresh()


def test_what_may_not_be_looked_at_any_more_hides_what_is_below_it_until_it_may_again(
    tree, mount, monkeypatch
):
    look = cgroup.look

    def refusing(mount, path):
        if path == "/a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(mount, path)

    (mount / "a/new").mkdir()  # which could be looked at, where its parent may be searched and not read
    (mount / "a").chmod(0o711)
    with monkeypatch.context() as patched:
        patched.setattr(cgroup, "look", refusing)
        tree.refresh()
        hidden = paths(tree)
    (mount / "a").chmod(0o755)
    tree.refresh()

    assert hidden == ["/", "/c"]
    assert paths(tree) == ["/", "/c", "/a", "/a/b", "/a/new"]


def test_an_error_that_is_not_a_vanished_cgroup_is_not_hidden(tree, mount, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    (mount / "a").chmod(0o700)
    monkeypatch.setattr(cgroup, "look", failing)

    with pytest.raises(OSError, match="Input/output"):
        tree.refresh()


def test_where_events_were_lost_all_is_walked_and_watched_anew(tree, mount, monkeypatch, walks):
    lost = SimpleNamespace(wd=-1, mask=flags.Q_OVERFLOW, name="")
    (mount / "a/unseen").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(INotify, "read", lambda *_, **__: [lost])
        assert tree.refresh()
    after_the_loss = paths(tree)
    (mount / "d").mkdir()
    tree.refresh()

    assert after_the_loss == ["/", "/a", "/a/b", "/a/unseen", "/c"]
    assert paths(tree)[-1] == "/d"
    assert walks == ["/", "/d"]


def test_without_inotify_the_tree_is_walked_at_every_refresh(mount, monkeypatch):
    def refused():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(cgroup_tree, "INotify", refused)
    tree = Tree(mount)
    (mount / "c").rmdir()
    (mount / "d").mkdir()

    assert tree.refresh()
    assert paths(tree) == ["/", "/a", "/a/b", "/d"]
    assert tree.problem == (
        "inotify: Too many open files: all cgroups are walked to find new ones; raise fs.inotify.max_user_instances"
    )


@pytest.mark.parametrize("after", [0, 2])
def test_where_no_more_can_be_watched_the_tree_is_walked_at_every_refresh(mount, monkeypatch, after):
    refuse(monkeypatch, errno.ENOSPC, after=after)
    tree = Tree(mount)
    before = paths(tree)
    (mount / "a/new").mkdir()

    assert tree.refresh()
    assert before == ["/", "/a", "/a/b", "/c"]
    assert paths(tree) == ["/", "/a", "/a/b", "/a/new", "/c"]
    assert tree.problem.endswith("raise fs.inotify.max_user_watches")


def test_where_a_new_one_is_one_too_many_the_tree_is_walked_from_then_on(mount, monkeypatch):
    refuse(monkeypatch, errno.ENOSPC, after=4)
    tree = Tree(mount)
    (mount / "a/new").mkdir()
    (mount / "c").rmdir()
    tree.refresh()
    (mount / "d").mkdir()
    tree.refresh()

    assert paths(tree) == ["/", "/a", "/a/b", "/a/new", "/d"]


def test_what_is_hidden_when_a_new_one_was_one_too_many_is_forgotten(mount, monkeypatch):
    look = cgroup.look

    def refusing(mount, path):
        if path == "/c":
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(mount, path)

    refuse(monkeypatch, errno.ENOSPC, after=4)
    tree = Tree(mount)
    (mount / "a/new").mkdir()
    (mount / "c").chmod(0o711)
    monkeypatch.setattr(cgroup, "look", refusing)

    assert tree.refresh()
    assert paths(tree) == ["/", "/a", "/a/b", "/a/new"]


def test_a_tree_that_is_gone_holds_nothing(tmp_path):
    assert paths(Tree(tmp_path / "gone")) == []


def test_what_is_no_tree_is_not_hidden(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        Tree(tmp_path / "file")


def test_a_tree_that_nobody_closed_keeps_no_descriptor(mount):
    opened = [Tree(mount)]
    inotify = opened[0]._inotify  # noqa: SLF001 - the descriptor is nobody else's business

    opened.clear()

    assert inotify.closed
