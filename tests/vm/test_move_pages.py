# SPDX-License-Identifier: Apache-2.0

"""The bindings tell what the kernel says about every page, and mistake none of its answers for another."""

import errno
import mmap
import os

import numpy as np
import pytest

from numad_py.kernel import migration, placement
from tests.vm import job_memory
from tests.vm.moving import MB, PAGE, nodes_of_each

pytestmark = pytest.mark.guest("two-nodes", "four-nodes")


def addresses(start, pages):
    return np.arange(start, start + pages * PAGE, PAGE, dtype=np.uint64)


def test_the_kernel_names_the_node_of_a_touched_page_and_has_no_node_for_others(guest):
    job_memory.run_on(1)
    memory = mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    start = job_memory.address_of(memory)
    memory[0] = 1
    assert memory[2 * PAGE] == 0  # only read: the zero page

    touched, untouched, zero, _ = placement.nodes_of(os.getpid(), addresses(start, 4))

    assert touched == 1
    assert untouched == {"6.1": -errno.EFAULT, "6.12": -errno.ENOENT}[guest.kernel]
    assert zero == -errno.EFAULT


def test_an_address_where_nothing_is_mapped_is_a_fault_of_that_page_alone():
    memory = mmap.mmap(-1, PAGE)
    start = job_memory.address_of(memory)
    memory[0] = 1

    nothing, mine = placement.nodes_of(os.getpid(), np.array([PAGE, start], np.uint64))

    assert nothing == -errno.EFAULT
    assert mine >= 0


def test_the_answers_agree_with_those_of_a_bare_call(workload):
    running = workload("late-bound", "--mb=8")
    migration.move_pages(running.pid, addresses(running.start, 100), 1)

    ours = placement.nodes_of(running.pid, addresses(running.start, 2048))

    assert ours.tolist() == nodes_of_each(running.pid, running.start, running.end)
    assert ours.tolist() == [1] * 100 + [0] * 1948


def test_a_positive_answer_is_no_error_and_the_other_pages_have_moved(workload):
    running = workload("pinned", "--mb=1", "--pin", "5")

    left, status = migration.move_pages(running.pid, addresses(running.start, 64), 1)

    assert left == 1
    assert status[5] == migration.UNTOUCHED
    assert nodes_of_each(running.pid, running.start, running.start + 64 * PAGE) == [1] * 5 + [0] + [1] * 58


def test_a_shared_page_is_refused_page_by_page(workload):
    running = workload("forked", "--mb=1", "--own", "0", "2")

    left, status = migration.move_pages(running.pid, addresses(running.start, 4), 1)

    assert left == 0
    assert status.tolist() == [1, -errno.EACCES, 1, -errno.EACCES]
    assert nodes_of_each(running.pid, running.start, running.start + 4 * PAGE) == [1, 0, 1, 0]


def test_a_node_that_does_not_exist_is_refused(workload, guest):
    running = workload("late-bound", "--mb=1")

    with pytest.raises(OSError, match="No such device"):
        migration.move_pages(running.pid, addresses(running.start, 1), len(guest.nodes))

    assert set(nodes_of_each(running.pid, running.start, running.end)) == {0}


@pytest.mark.parametrize("ask", [placement.nodes_of, lambda pid, where: migration.move_pages(pid, where, 1)])
def test_a_process_that_is_gone_is_looked_up_in_vain(workload, ask):
    running = workload("late-bound", "--mb=1")
    running.close()

    with pytest.raises(ProcessLookupError):
        ask(running.pid, addresses(running.start, 1))


def test_a_strided_view_is_refused_at_the_door(workload):
    running = workload("late-bound", "--mb=1")
    every_second = addresses(running.start, 16)[::2]

    with pytest.raises(ValueError, match="8 contiguous uint64"):
        migration.move_pages(running.pid, every_second, 1)
    with pytest.raises(ValueError, match="8 contiguous uint64"):
        placement.nodes_of(running.pid, every_second)

    assert set(nodes_of_each(running.pid, running.start, running.end)) == {0}


def test_addresses_of_another_type_are_refused_at_the_door(workload):
    running = workload("late-bound", "--mb=1")

    with pytest.raises(ValueError, match="not int64"):
        placement.nodes_of(running.pid, addresses(running.start, 4).astype(np.int64))


def test_migrate_pages_says_how_many_pages_it_could_not_move(workload):
    running = workload("pinned", "--mb=1", "--pin", "7", "9")

    left = migration.migrate_pages(running.pid, (0,), 1)

    where = nodes_of_each(running.pid, running.start, running.end)
    assert [page for page, node in enumerate(where) if node == 0] == [7, 9]
    assert left >= 2
    assert len(where) == MB // PAGE
