# SPDX-License-Identifier: Apache-2.0

"""CPUs are grouped as the kernel says, each once, and what it does not say is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import cpu_sysfs


@pytest.fixture
def write(tmp_path):
    """Write files below sys/devices/system/cpu of ``write.root``."""

    def file(path, text):
        target = tmp_path / "sys/devices/system/cpu" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    file.root = tmp_path
    return file


def test_siblings_are_asked_of_one_cpu_for_all(write):
    write("cpu0/topology/thread_siblings_list", "0,4\n")
    write("cpu1/topology/thread_siblings_list", "1,5\n")

    assert cpu_sysfs.read_cores((0, 1, 4, 5), write.root) == ((0, 4), (1, 5))


def test_sockets_hold_the_cpus_that_are_on_line(write):
    write("cpu0/topology/core_siblings_list", "0-3\n")
    write("cpu8/topology/core_siblings_list", "8-9\n")

    assert cpu_sysfs.read_sockets((0, 2, 8, 9), write.root) == ((0, 2), (8, 9))


def test_cpus_of_which_nothing_is_told_are_in_no_group(write):
    write("cpu1/topology/core_siblings_list", "1\n")

    assert cpu_sysfs.read_sockets((0, 1), write.root) == ((1,),)
    assert cpu_sysfs.read_llcs((0, 1), write.root) == ()


def test_the_cache_of_the_highest_level_counts(write):
    write("cpu0/cache/uevent", "")
    for index, level, shared in ((0, 1, "0"), (1, 1, "0"), (2, 2, "0-1"), (3, 3, "0-3")):
        write(f"cpu0/cache/index{index}/level", f"{level}\n")
        write(f"cpu0/cache/index{index}/shared_cpu_list", shared)

    assert cpu_sysfs.read_llcs((0, 1, 2, 3), write.root) == ((0, 1, 2, 3),)


def test_a_cache_that_does_not_say_who_shares_it_and_a_cpu_without_caches_tell_nothing(write):
    write("cpu0/cache/index3/level", "3\n")
    write("cpu1/cache/uevent", "")

    assert cpu_sysfs.read_llcs((0, 1), write.root) == ()


def test_cpus_set_apart_are_told_and_no_mask_is_no_cpu(write):
    write("isolated", "4-5\n")
    write("nohz_full", "  (null)\n")

    write("possible", "0-7\n")

    assert cpu_sysfs.possible(write.root) == tuple(range(8))
    assert cpu_sysfs.isolated(write.root) == (4, 5)
    assert cpu_sysfs.nohz_full(write.root) == ()


@pytest.mark.parametrize("text", ["", "x", "-1", "9999"])
def test_a_level_that_is_no_number_is_refused(write, text):
    write("cpu0/cache/index0/level", text)

    with pytest.raises(cpu_sysfs.Malformed, match="level"):
        cpu_sysfs.read_llcs((0,), write.root)


@given(
    text=st.text(st.characters(codec="ascii"), max_size=20) | st.from_regex(r"[0-9,\-]{0,12}", fullmatch=True)
)
def test_no_text_raises_anything_but_malformed(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("cpu")
    siblings = root / "sys/devices/system/cpu/cpu0/topology/core_siblings_list"
    siblings.parent.mkdir(parents=True)
    siblings.write_text(text)

    try:
        groups = cpu_sysfs.read_sockets((0, 1), root)
    except cpu_sysfs.Malformed:
        return

    assert {cpu for group in groups for cpu in group} <= {0, 1}
