# SPDX-License-Identifier: Apache-2.0

"""What a job's processes map alone is told from what a stranger maps too, from a library, and from what is merged."""

import numpy as np
import pytest

from numad_py.kernel import maps, numa_maps, proc_stat, proc_status
from numad_py.model import PlacementSource, ProcessKey, RegionKind
from numad_py.sense.known import Known
from numad_py.sense.mapped import LEAST_BYTES, mapped
from numad_py.sense.placement import Placement
from numad_py.sense.sharing import Sharing
from tests.fake_root import stat

MANY = 2 * LEAST_BYTES // 4096
FILE, ARRAY = "r--s 00100000 fe:00 7", "rw-p 00000000 00:00 0"
STATUS = proc_status.Status((0, 1), (0, 1), rss_anon_bytes=4096, uid=0)


def vma(maps_as=FILE, *, start=0x7F0000000000, mapmax=2, pages=MANY, mempolicy="default"):
    """Give what maps and numa_maps say of one VMA."""
    words = "file=/d" if ":00 0" not in maps_as else f"anon={pages}"
    many = f" mapmax={mapmax}" if mapmax > 1 else ""
    numa_line = f"{start:x} {mempolicy} {words} mapped={pages}{many} N0={pages} kernelpagesize_kB=4\n"
    return f"{start:x}-{start + (64 << 20):x} {maps_as} /d\n", numa_line


def member(pid, *vmas, start_stack=0x7FFE00000000):
    """Give a process of a job, and what was read of it."""
    map_lines, numa_lines = zip(*vmas, strict=True)
    read = maps.parse("".join(map_lines).encode())
    placed = numa_maps.parse("".join(numa_lines).encode(), (0, 1), 4096)
    regions = numa_maps.regions(placed, read.start, read.end)
    source, known = PlacementSource.NUMA_MAPS, Known(ProcessKey(pid, 7), seen(pid, start_stack), 1, 0.0)
    known.remember(Placement(regions, STATUS, source, 0.0, 0.0, 0.0, read, mapped(regions, read)), 0.0)
    return known


def seen(pid, start_stack):
    return proc_stat.parse(stat(pid, start_stack=start_stack).encode())


def told(tmp_path, *members):
    """Give, by process, the backing of each region."""
    Sharing(tmp_path).tell({1: members})
    return [each.placement.regions.backing.tolist() for each in members]


def test_a_file_that_two_processes_of_a_job_map_is_shared_wherever_they_have_it(tmp_path):
    here, there = vma(), vma(start=0x7E0000000000)

    one, other = member(1, here), member(2, there)

    (a,), (b,) = told(tmp_path, one, other)
    assert a == b > 0
    for each in (one, other):
        assert each.placement.regions.offset.tolist() == [0x100000]
        assert each.placement.regions.shared.tolist() == [True]
        assert each.placement.regions.movable.tolist() == [False]


def test_memory_that_forked_processes_share_is_known_by_where_they_began(tmp_path):
    (a,), (b,) = told(tmp_path, member(1, vma(ARRAY)), member(2, vma(ARRAY)))

    assert a == b > 0


def test_every_place_that_is_shared_has_a_number_of_its_own(tmp_path):
    both = vma(ARRAY, start=0x7D0000000000), vma(ARRAY), vma(start=0x7F8000000000)

    (a, b, c), others = told(tmp_path, member(1, *both), member(2, *both))

    assert [a, b, c] == others
    assert len({0, a, b, c}) == 4


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (member(2, vma(mapmax=3)), "a third process maps some page"),
        (member(2, vma("r--s 00200000 fe:00 7")), "it maps another part"),
        (member(2, vma("r--s 00100000 fe:00 8")), "it maps another file"),
        (member(2, vma(mempolicy="bind:0")), "its memory was bound"),
        (member(2, vma(pages=1)), "it has next to nothing of it"),
    ],
)
def test_a_file_is_not_shared_within_a_job_where(tmp_path, other, why):
    one = member(1, vma())

    assert not any(map(any, told(tmp_path, one, other))), why


@pytest.mark.parametrize("start_stack", [0x7FFE00001000, 0])
def test_anonymous_memory_of_who_began_elsewhere_or_nobody_knows_where_is_another(tmp_path, start_stack):
    one, other = (
        member(pid, vma(ARRAY), start_stack=at) for pid, at in ((1, start_stack), (2, start_stack * 2))
    )

    assert told(tmp_path, one, other) == [[0], [0]]


def test_a_file_of_which_a_part_may_be_executed_is_never_shared(tmp_path):
    code = vma("r-xp 00000000 fe:00 7", start=0x7D0000000000)

    assert told(tmp_path, member(1, code, vma()), member(2, code, vma())) == [[0, 0], [0, 0]]


def test_where_the_kernel_merged_pages_only_files_are_shared(tmp_path):
    (tmp_path / "sys/kernel/mm/ksm").mkdir(parents=True)
    (tmp_path / "sys/kernel/mm/ksm/pages_shared").write_text("12\n")
    both = vma(ARRAY, start=0x7D0000000000), vma()

    one, other = told(tmp_path, member(1, *both), member(2, *both))

    assert np.array([one, other]).astype(bool).tolist() == [[False, True]] * 2


def test_one_process_that_maps_a_file_twice_shares_it_with_nobody(tmp_path):
    assert told(tmp_path, member(1, vma(start=0x7D0000000000), vma())) == [[0, 0]]


def test_what_a_stranger_came_to_map_is_no_longer_shared_once_it_is_read_again(tmp_path):
    one, other, sharing = member(1, vma()), member(2, vma()), Sharing(tmp_path)
    sharing.tell({1: [one, other]})
    before = one.placement

    sharing.tell({1: [one, other]})
    assert one.placement is before
    other.remember(member(2, vma(mapmax=3)).placement, 1.0)
    sharing.tell({1: [one, other]})

    assert not one.placement.regions.backing.any()


def test_each_of_many_processes_is_told_what_it_shares_and_with_whom(tmp_path):
    """Pairs share a file; every third process has memory of a fork besides, and the fifth nothing."""
    members = [
        member(
            pid,
            *([vma(ARRAY, start=0x7D0000000000, mapmax=3)] if pid % 3 == 0 else []),
            *(
                [vma(f"r--s 00100000 fe:00 {pid // 2 + 7}", start=0x7E0000000000 + (pid << 30))]
                if pid != 5
                else []
            ),
            vma(ARRAY, mapmax=1),
        )
        for pid in range(9)
    ]

    backing = told(tmp_path, *members)

    files = [each[-2] for each in backing if len(each) > 1]
    (fork,) = {each[0] for each in backing if len(each) == 3}
    assert [each[-1] for each in backing] == [0] * 9
    assert files[0] == files[1] > 0
    assert files[2] == files[3] > 0
    assert files[4:5] == [0]
    assert files[5] == files[6] > 0
    assert files[7] == 0
    assert len({0, fork, files[0], files[2], files[5]}) == 5


def test_a_process_that_nobody_has_read_yet_shares_nothing(tmp_path):
    unread = Known(ProcessKey(2, 7), seen(2, 0), 1, 0.0)

    Sharing(tmp_path).tell({1: [one := member(1, vma()), unread]})

    assert one.placement.regions.backing.tolist() == [0]
    assert one.placement.regions.kind.tolist() == [RegionKind.FILE]
