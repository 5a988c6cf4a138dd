# SPDX-License-Identifier: Apache-2.0

"""The size of a transparent huge page is what sysfs says, and 0 where there are none."""

from numad_py.kernel import hugepages


def test_the_size_is_read_from_sysfs(tmp_path):
    folder = tmp_path / "sys/kernel/mm/transparent_hugepage"
    folder.mkdir(parents=True)
    (folder / "hpage_pmd_size").write_text("2097152\n")

    assert hugepages.pmd_bytes(tmp_path) == 2 << 20


def test_a_kernel_without_huge_pages_has_none(tmp_path):
    assert hugepages.pmd_bytes(tmp_path) == 0
