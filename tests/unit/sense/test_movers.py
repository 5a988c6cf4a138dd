# SPDX-License-Identifier: Apache-2.0

"""Whoever else moves pages is named with what follows, and what is not there is not mentioned."""

import pytest

from numad_py.sense.movers import ABSENT, movers
from tests.fake_root import FORBIDDEN


def found(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return {mover.name: mover for mover in movers(root)}


@pytest.mark.parametrize(
    ("value", "follows"),
    [
        ("0", "repairs no placement"),
        ("1", "may leave again"),
        ("2", "faster memory"),
        ("3", "may leave again"),
    ],
)
def test_what_follows_from_the_kernels_balancing_hangs_on_its_mode(tmp_path, value, follows):
    balancing = found(tmp_path, {"proc/sys/kernel/numa_balancing": f"{value}\n"})["kernel.numa_balancing"]

    assert balancing.value == value
    assert follows in balancing.means


def test_a_kernel_without_balancing_says_so_and_other_missing_files_are_not_mentioned(tmp_path):
    names = found(tmp_path, {})

    assert {name: mover.value for name, mover in names.items()} == {"kernel.numa_balancing": ABSENT}


@pytest.mark.parametrize(
    ("file", "off", "on"),
    [
        ("proc/sys/vm/zone_reclaim_mode", "0", "1"),
        ("sys/kernel/mm/numa/demotion_enabled", "false", "true"),
        ("sys/module/damon_reclaim/parameters/enabled", "N", "Y"),
        ("sys/kernel/mm/ksm/run", "0", "1"),
    ],
)
def test_on_and_off_mean_different_things(tmp_path, file, off, on):
    (before,) = [
        mover for name, mover in found(tmp_path, {file: f"{off}\n"}).items() if "balancing" not in name
    ]
    (after,) = [
        mover for name, mover in found(tmp_path, {file: f"{on}\n"}).items() if "balancing" not in name
    ]

    assert (before.value, after.value) == (off, on)
    assert before.means != after.means


def test_pages_that_were_merged_are_told_also_when_no_more_are(tmp_path):
    names = found(tmp_path, {"sys/kernel/mm/ksm/run": "0\n", "sys/kernel/mm/ksm/pages_shared": "12\n"})

    assert names["merged pages"].value == "12"
    assert "merged pages" not in found(tmp_path, {"sys/kernel/mm/ksm/pages_shared": "0\n"})


def test_a_running_numad_is_named(tmp_path):
    names = found(tmp_path, {"proc/7/comm": "python3\n", "proc/812/comm": "numad\n"})

    assert names["numad"].value == "PID 812"


def test_what_may_not_be_read_is_passed_over(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/comm").symlink_to(FORBIDDEN)

    assert "numad" not in found(tmp_path, {})


def test_a_process_may_be_called_anything(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/comm").write_bytes(b"\xff\n")

    names = found(tmp_path, {"proc/812/comm": "numad\n"})

    assert names["numad"].value == "PID 812"
