# SPDX-License-Identifier: Apache-2.0

"""What the kernel merged is counted, for the machine and for a process as far as we may know."""

import os

import pytest

from numad_py.kernel import ksm
from tests.fake_root import FORBIDDEN


@pytest.fixture
def merging(tmp_path):
    """Give a machine on which pages are merged."""
    (tmp_path / "sys/kernel/mm/ksm").mkdir(parents=True)
    (tmp_path / "sys/kernel/mm/ksm/pages_shared").write_text("12\n")
    (tmp_path / "proc/7").mkdir(parents=True)
    return tmp_path


def test_a_kernel_without_it_has_merged_nothing(tmp_path):
    assert (ksm.shared_pages(tmp_path), ksm.merged_pages(7, tmp_path)) == (0, 0)


def test_the_pages_of_a_process_are_counted_by_the_kernel(merging):
    (merging / "proc/7/ksm_merging_pages").write_text("300\n")

    assert (ksm.shared_pages(merging), ksm.merged_pages(7, merging)) == (12, 300)


def test_where_nobody_tells_or_only_its_user_may_know_it_is_not_known(merging):
    untold = ksm.merged_pages(7, merging)
    (merging / "proc/7/ksm_merging_pages").symlink_to(FORBIDDEN)

    assert untold is ksm.merged_pages(7, merging) is None


def test_of_ourselves_it_can_be_read():
    assert ksm.merged_pages(os.getpid()) in (0, None)
