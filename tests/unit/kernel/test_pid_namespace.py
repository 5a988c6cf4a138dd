# SPDX-License-Identifier: Apache-2.0

"""Whether our PIDs are the drivers' own is known from the number of our PID namespace."""

from pathlib import Path

import pytest

from numad_py.kernel import pid_namespace


@pytest.mark.parametrize(("link", "first"), [("pid:[4026531836]", True), ("pid:[4026532758]", False)])
def test_the_first_namespace_has_a_number_of_its_own(tmp_path, link, first):
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to(link)

    assert pid_namespace.is_first(tmp_path) is first


def test_a_kernel_that_does_not_say_is_not_trusted(tmp_path):
    assert not pid_namespace.is_first(tmp_path)


def test_the_live_kernel_prints_that_form():
    link = Path("/proc/self/ns/pid").readlink().name

    assert link.startswith("pid:[4")
    assert pid_namespace.is_first(Path("/")) == (link == "pid:[4026531836]")
