# SPDX-License-Identifier: Apache-2.0

"""maps is read by columns, whatever its paths hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import maps

TEXT = (
    b"5581d6e3c000-5581d6e3e000 r--p 00002000 fe:00 1048593                    /usr/bin/cat\n"
    b"7f2b4c000000-7f2b4c021000 rw-p 00000000 00:00 0 \n"
    b"7f2b50000000-7f2b50200000 rw-s 7fffffffff000 103:00001 18446744073709551615 /tmp/a - b (deleted) (deleted)\n"
    b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
)


def test_a_file_of_the_kernel_gives_its_columns():
    read = maps.parse(TEXT)

    assert read.start.tolist() == [0x5581D6E3C000, 0x7F2B4C000000, 0x7F2B50000000, 0xFFFFFFFFFF600000]
    assert read.end.tolist() == [0x5581D6E3E000, 0x7F2B4C021000, 0x7F2B50200000, 0xFFFFFFFFFF601000]
    assert read.readable.tolist() == [True, True, True, False]
    assert read.executable.tolist() == [False, False, False, True]
    assert read.file.tolist() == [True, False, True, False]
    assert read.offset.tolist() == [0x2000, 0, 0x7FFFFFFFFF000, 0]
    assert read.name.astype(bool).tolist() == read.file.tolist()


def test_only_vmas_of_one_file_have_the_same_name():
    lines = [
        b"1000-2000 r--p 00000000 fe:00 7 /a\n",
        b"3000-4000 r--p 00001000 fe:00 7 /b\n",
        b"5000-6000 r--p 00000000 fe:01 7 /a\n",
        b"7000-8000 r--p 00000000 fe:00 17 /a\n",
        b"9000-a000 r--p 00000000 fe:00 11234567890123456789 /a\n",
        b"b000-c000 r--p 00000000 fe:00 11234567890123456780 /a\n",
    ]

    first, second, *others = maps.parse(b"".join(lines)).name.tolist()

    assert first == second
    assert len({first, *others}) == 5


@pytest.mark.parametrize("cut", [1, 30, 80])
def test_a_line_that_a_read_cut_short_is_dropped(cut):
    whole = TEXT.splitlines(keepends=True)

    assert len(maps.parse(whole[0] + whole[1][:cut].rstrip(b"\n")).start) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"1000 rw-p 0 00:00 0",
        b"1000-2000",
        b"1000-2000 rw-p",
        b"1000-2000 rwxq 0 00:00 0 ",
        b"1000-2000 Rwxp 0 00:00 0 ",
        b"1000-2000 rwxp0 00:00 0 ",
        b"1000-2000 rwxp 0 00:0 x ",
        b"1000-2000 rwxp x 00:0 1 ",
        b"1000-2000 rwxp 0 0x:0 1 ",
        b"1000-2000 rwxp 0 0000 0 ",
        b"1000-2000 rwxp  0 0:0 ",
        b"1000--2000 rwxp 0 0:0 0 ",
        b"1000-2000 rwx\x00 0 0:0 0 ",
        b"100G-2000 rwxp 0 0:0 0 ",
        b"1000-200A rwxp 0 0:0 0 ",
        b"00000000000001000-2000 rwxp 0 0:0 0 ",
        b"2000-2000 rwxp 0 0:0 0 ",
        b"2000-1000 rwxp 0 0:0 0 ",
    ],
)
def test_a_line_of_any_other_form_is_refused(line):
    with pytest.raises(maps.Malformed):
        maps.parse(TEXT + line + b"\n" + TEXT)


@st.composite
def rows(draw):
    """Draw one VMA, and the line that show_map_vma() prints for it."""
    start = draw(st.integers(0, 2**64 - 2))
    end = draw(st.integers(start + 1, 2**64 - 1))
    readable = draw(st.booleans())
    offset, inode = draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 2**64 - 1))
    major, minor = draw(st.integers(0, 2**12 - 1)), draw(st.integers(0, 2**20 - 1))
    path = draw(st.binary(max_size=30)).replace(b"\n", b"\\012")
    mode = f"{'r' if readable else '-'}{draw(st.sampled_from(['wxp', '--p', 'w-s', '-xs']))}"
    line = (
        f"{start:08x}-{end:08x} {mode} {offset:08x} {major:02x}:{minor:02x} {inode} ".encode() + path + b"\n"
    )
    return (start, end, readable, inode > 0), line


@given(st.lists(rows(), max_size=8))
def test_what_the_kernel_prints_reads_the_same(drawn):
    read = maps.parse(b"".join(line for _, line in drawn))

    columns = (read.start, read.end, read.readable, read.file)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == [row for row, _ in drawn]


FRAGMENTS = [b"1000", b"-", b"2000", b" rw-p ", b"0 ", b"00:00", b" 0", b" ", b"\n", b"ffffffffffffffff"]


@given(st.binary(max_size=120) | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join))
def test_no_bytes_raise_anything_but_malformed(text):
    try:
        read = maps.parse(text)
    except maps.Malformed:
        return

    assert len(read.start) == text.count(b"\n")


def test_a_file_is_read_below_the_root_that_was_given(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/maps").write_bytes(TEXT)

    assert maps.read(7, tmp_path) == TEXT
