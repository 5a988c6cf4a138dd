# SPDX-License-Identifier: Apache-2.0

"""What is on line is told as text that differs whenever a node, its memory or a CPU came or went."""

import pytest

from numad_py.kernel import hotplug

LISTS = ("node/online", "node/has_memory", "node/has_cpu", "cpu/online")


@pytest.fixture
def system(tmp_path):
    """Make a machine whose lists all say 0-1."""
    for name in LISTS:
        path = tmp_path / "sys/devices/system" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0-1\n")
    return tmp_path


def test_what_did_not_change_is_equal(system):
    assert hotplug.present(system) == hotplug.present(system)


@pytest.mark.parametrize("name", LISTS)
def test_each_list_counts(system, name):
    before = hotplug.present(system)
    (system / "sys/devices/system" / name).write_text("0\n")

    assert hotplug.present(system) != before


def test_a_kernel_without_numa_has_cpus_alone(tmp_path):
    assert hotplug.present(tmp_path) == ("", "", "", "")
