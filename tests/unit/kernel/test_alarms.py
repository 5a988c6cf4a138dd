# SPDX-License-Identifier: Apache-2.0

"""A kernel's alarms are its counts where it has them, else its taint."""

import pytest

from numad_py.kernel import alarms
from numad_py.kernel.alarms import Alarms


@pytest.fixture
def write(tmp_path):
    """Write a file below the root."""

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


def test_counts_tell_more_than_the_taint(tmp_path, write):
    write("proc/sys/kernel/tainted", "512\n")
    write("sys/kernel/oops_count", "2\n")
    write("sys/kernel/warn_count", "7\n")

    assert alarms.read(tmp_path) == Alarms(oopses=2, warnings=7)


@pytest.mark.parametrize(
    ("taint", "found"), [(0, Alarms(0, 0)), (512, Alarms(0, 1)), (128 | 4096, Alarms(1, 0))]
)
def test_without_counts_the_taint_tells(tmp_path, write, taint, found):
    write("proc/sys/kernel/tainted", f"{taint}\n")

    assert alarms.read(tmp_path) == found


def test_a_kernel_that_tells_nothing_has_no_alarms(tmp_path):
    assert alarms.read(tmp_path) == Alarms(0, 0)


def test_what_is_no_number_is_malformed(tmp_path, write):
    write("sys/kernel/oops_count", "many\n")

    with pytest.raises(alarms.Malformed, match="oops_count: 'many'"):
        alarms.read(tmp_path)


def test_the_live_kernel_is_read():
    assert alarms.read().oopses >= 0
