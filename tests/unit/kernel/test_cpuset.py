# SPDX-License-Identifier: Apache-2.0

"""The cpuset of a cgroup is its own, else that of the nearest above."""

import pytest

from numad_py.kernel import cpuset
from tests.fake_root import FORBIDDEN


@pytest.fixture
def tree(tmp_path):
    """Make a cgroup tree with ``a/b`` in it."""
    (tmp_path / "mount/a/b").mkdir(parents=True)
    return tmp_path / "mount"


def allow(cgroup, cpus, mems):
    (cgroup / "cpuset.cpus.effective").write_text(cpus)
    (cgroup / "cpuset.mems.effective").write_text(mems)


def test_its_own_cpuset_counts(tree):
    allow(tree, "0-7\n", "0-1\n")
    allow(tree / "a/b", "0-3\n", "0\n")

    assert cpuset.read(tree / "a/b", tree) == cpuset.Cpuset((0, 1, 2, 3), (0,))


def test_else_that_of_the_nearest_above(tree):
    allow(tree, "0-7\n", "0-1\n")
    allow(tree / "a", "2-3\n", "1\n")

    assert cpuset.read(tree / "a/b", tree) == cpuset.Cpuset((2, 3), (1,))


def test_a_tree_without_the_controller_has_none(tree):
    assert cpuset.read(tree / "a/b", tree) is None


def test_nothing_above_the_mount_is_asked(tree):
    allow(tree.parent, "0\n", "0\n")

    assert cpuset.read(tree / "a", tree) is None


def test_a_cpuset_that_may_not_be_read_is_told(tree):
    (tree / "cpuset.cpus.effective").symlink_to(FORBIDDEN)

    with pytest.raises(PermissionError):
        cpuset.read(tree / "a/b", tree)
