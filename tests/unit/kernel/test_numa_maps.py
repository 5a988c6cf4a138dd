# SPDX-License-Identifier: Apache-2.0

"""numa_maps is read by columns, and gives what reading it token by token gives."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import maps, numa_maps
from numad_py.model import REGION_COLUMNS, Mempolicy, RegionKind

COLUMNS = ("start", "page_bytes", "kind", "mempolicy", "mapmax", "anon_pages", "pages")
POLICIES = {
    "default": Mempolicy.DEFAULT,
    "local": Mempolicy.LOCAL,
    "prefer:1": Mempolicy.PREFERRED,
    "prefer=static:0": Mempolicy.PREFERRED,
    "prefer=relative:2": Mempolicy.PREFERRED,
    "prefer (many):0-1": Mempolicy.PREFERRED,
    "prefer (many)=static:0,2-3": Mempolicy.PREFERRED,
    "bind:0-1": Mempolicy.BIND,
    "bind=static:0-1": Mempolicy.BIND,
    "bind=static|balancing:0-1023": Mempolicy.BIND,
    "interleave:0-7": Mempolicy.INTERLEAVE,
    "interleave=relative:0,3": Mempolicy.INTERLEAVE,
    "weighted interleave:0-3": Mempolicy.INTERLEAVE,
    "weighted interleave=static:0-3": Mempolicy.INTERLEAVE,
    "unknown": Mempolicy.OTHER,
    "weighted": Mempolicy.OTHER,
    "weighted something:1": Mempolicy.OTHER,
    "preferably:1": Mempolicy.OTHER,
    "defaults": Mempolicy.OTHER,
}


def reference(text, node_ids, page_bytes):
    """Read numa_maps slowly, token by token."""
    rows = [reference_line(line, node_ids, page_bytes) for line in text.split(b"\n")[:-1]]
    return {name: [row[name] for row in rows] for name in (*COLUMNS, "unknown")}


def reference_line(line, node_ids, page_bytes):
    start, _, rest = line.partition(b" ")
    word = next((word for word in sorted(WORDS, key=len, reverse=True) if rest.startswith(word)), None)
    whole = word is not None and rest[len(word) : len(word) + 1] in (b"", b" ", b"=", b":")
    tokens = rest.split(b" ")
    values = dict(token.split(b"=", 1) for token in tokens if b"=" in token)
    nodes = {int(key[1:]): int(value) for key, value in values.items() if re.fullmatch(rb"N[0-9]{1,6}", key)}
    return {
        "start": int(start, 16),
        "page_bytes": int(values[b"kernelpagesize_kB"]) * 1024
        if b"kernelpagesize_kB" in values
        else page_bytes,
        "kind": reference_kind(tokens, values),
        "mempolicy": WORDS[word] if whole else Mempolicy.OTHER,
        "mapmax": int(values.get(b"mapmax", 1)) if any(nodes.values()) else 0,
        "anon_pages": int(values.get(b"anon", 0)),
        "pages": [nodes.get(node, 0) for node in node_ids],
        "unknown": sum(pages for node, pages in nodes.items() if node not in node_ids),
    }


def reference_kind(tokens, values):
    if b"file" in values:
        return RegionKind.FILE
    kinds = [
        kind for word, kind in ((b"heap", RegionKind.HEAP), (b"stack", RegionKind.STACK)) if word in tokens
    ]
    return kinds[0] if kinds else RegionKind.ANON


WORDS = {
    b"default": Mempolicy.DEFAULT,
    b"bind": Mempolicy.BIND,
    b"local": Mempolicy.LOCAL,
    b"prefer": Mempolicy.PREFERRED,
    b"interleave": Mempolicy.INTERLEAVE,
    b"weighted interleave": Mempolicy.INTERLEAVE,
}


def escaped(path):
    """Write a path as seq_path() does with the characters that numa_maps gives it."""
    return "".join(f"\\{ord(char):03o}" if char in "\n\t =" else char for char in path)


PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).map(
    lambda path: " file=" + escaped("/" + path)
)
COUNTS = st.integers(0, 9) | st.integers(0, 10**7)


@st.composite
def lines(draw, node_ids):
    """Write one line as show_numa_map() does."""
    text = f"{draw(st.integers(0, 2**47)):08x} {draw(st.sampled_from(sorted(POLICIES)))}"
    text += draw(PATHS | st.sampled_from(["", " heap", " stack", " file=/anon_hugepage\\040(deleted) huge"]))
    on = draw(st.dictionaries(st.sampled_from(node_ids), COUNTS, max_size=8))
    if on:
        for key in ("anon", "dirty", "mapped", "mapmax", "swapcache", "active", "writeback"):
            count = draw(st.none() | COUNTS)
            text += f" {key}={count + 2}" if count is not None else ""
        text += "".join(f" N{node}={on[node]}" for node in sorted(on))
        text += f" kernelpagesize_kB={draw(st.sampled_from([4, 16, 64, 2048, 32768, 524288, 1048576]))}"
    return text.encode() + b"\n"


@pytest.mark.parametrize("node_ids", [(0,), (0, 1), (1, 8, 1023), tuple(range(1024))], ids=len)
@given(data=st.data(), page_bytes=st.sampled_from([4096, 16384, 65536]))
def test_columns_equal_the_tokens_read_one_by_one(node_ids, page_bytes, data):
    printed = (*node_ids, 99_999)  # and one that the caller does not know
    text = b"".join(data.draw(st.lists(lines(printed), max_size=6)))
    expected = reference(text, node_ids, page_bytes)

    read = numa_maps.parse(text, node_ids, page_bytes)

    for name in COLUMNS:
        assert getattr(read, name).tolist() == expected[name], name
    assert read.unknown_node_pages == sum(expected["unknown"])


def test_a_line_of_the_kernel_gives_a_row():
    text = (
        b"55c2fce24000 default file=/usr/bin/cat mapped=2 mapmax=3 N0=2 kernelpagesize_kB=4\n"
        b"7fad7bdbd000 bind=static:0-1 anon=12 dirty=12 active=0 N0=5 N1=7 kernelpagesize_kB=4\n"
        b"7ff965200000 prefer (many):1 file=/anon_hugepage\\040(deleted) huge anon=5 dirty=5 N1=5"
        b" kernelpagesize_kB=2048\n"
        b"7ffc64ea8000 default stack\n"
    )

    read = numa_maps.parse(text, (0, 1), 4096)

    assert read.start.tolist() == [0x55C2FCE24000, 0x7FAD7BDBD000, 0x7FF965200000, 0x7FFC64EA8000]
    assert read.page_bytes.tolist() == [4096, 4096, 2 << 20, 4096]
    assert read.kind.tolist() == [RegionKind.FILE, RegionKind.ANON, RegionKind.FILE, RegionKind.STACK]
    assert read.mempolicy.tolist() == [
        Mempolicy.DEFAULT,
        Mempolicy.BIND,
        Mempolicy.PREFERRED,
        Mempolicy.DEFAULT,
    ]
    assert read.mapmax.tolist() == [3, 1, 1, 0]
    assert read.anon_pages.tolist() == [0, 12, 5, 0]
    assert read.pages.tolist() == [[2, 0], [5, 7], [0, 5], [0, 0]]
    assert read.unknown_node_pages == 0


@pytest.mark.parametrize(
    ("policy", "mempolicy"), POLICIES.items(), ids=lambda value: str(value).replace(" ", "-")
)
def test_each_policy_word_is_told_apart(policy, mempolicy):
    read = numa_maps.parse(f"7f0000000000 {policy} anon=1 N0=1 kernelpagesize_kB=4\n".encode(), (0,), 4096)

    assert read.mempolicy.tolist() == [mempolicy]


def test_a_path_cannot_pose_as_a_token():
    text = b"7f0000000000 default file=/tmp/heap\\040stack\\040N0\\0759\\040heap N0=1 kernelpagesize_kB=4\n"

    read = numa_maps.parse(text, (0,), 4096)

    assert read.kind.tolist() == [RegionKind.FILE]
    assert read.pages.tolist() == [[1]]


def test_pages_of_a_node_nobody_named_are_counted_apart():
    read = numa_maps.parse(b"7f0000000000 default anon=5 N0=2 N7=3 kernelpagesize_kB=4\n", (0, 1), 4096)

    assert read.pages.tolist() == [[2, 0]]
    assert read.unknown_node_pages == 3


def test_a_token_of_a_later_kernel_is_passed_over():
    text = b"7f0000000000 default anon=1 New=7 N=1 N1234567=8 N0=1 tier=x kernelpagesize_kB=4 more\n"

    read = numa_maps.parse(text, (0,), 4096)

    assert read.pages.tolist() == [[1]]
    assert read.unknown_node_pages == 0


@pytest.mark.parametrize("text", [b"", b"7f00", b"7f0000000000 default anon=1 N0=1 kernelpage"])
def test_a_line_that_a_read_cut_short_is_dropped(text):
    whole = b"7e0000000000 default anon=1 N0=1 kernelpagesize_kB=4\n"

    assert numa_maps.parse(text, (0,), 4096).start.tolist() == []
    assert numa_maps.parse(whole + text, (0,), 4096).start.tolist() == [0x7E0000000000]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"default anon=1",
        b"7f0000000000",
        b"7F0000000000 default",
        b"7f0000000000\tdefault",
        b"11112222333344445 default",
        b"7f0000000000 default N0=",
        b"7f0000000000 default N0=x",
        b"7f0000000000 default N0=-1",
        b"7f0000000000 default anon=1x",
        b"7f0000000000 default mapmax=99999999999999999999",
        b"7f0000000000 default N0=18446744073709551616 kernelpagesize_kB=4",
        b"7f0000000000 default N0=4503599627370496 kernelpagesize_kB=16777216",
        b"7f0000000000 default N0=1 kernelpagesize_kB=16777217",
    ],
)
def test_a_line_of_garbage_is_refused(line):
    whole = b"7e0000000000 default anon=1 N0=1 kernelpagesize_kB=4\n"

    with pytest.raises(numa_maps.Malformed):
        numa_maps.parse(whole + line + b"\n" + whole, (0,), 4096)


FRAGMENTS = [
    b"7f00 ",
    b"default",
    b" anon=",
    b" N0=",
    b" N9",
    b"=",
    b" kernelpagesize_kB=",
    b"\n",
    b" heap",
    b"18446744073709551616",
]
NEARLY = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=25).map(b"".join)


@given(st.binary(max_size=200) | NEARLY)
def test_no_bytes_raise_anything_but_malformed(text):
    try:
        read = numa_maps.parse(text, (0, 3), 4096)
    except numa_maps.Malformed:
        return

    assert len(read.start) == text.count(b"\n")
    assert (read.pages >= 0).all()


def joined(numa, vmas):
    mapped = maps.parse(vmas)
    return numa_maps.regions(numa_maps.parse(numa, (0, 1), 4096), mapped.start, mapped.end)


def test_rows_of_both_files_join_on_their_start():
    numa = b"1000 default heap anon=1 N1=1 kernelpagesize_kB=4\n3000 bind:0 anon=2 mapmax=4 N0=2 kernelpagesize_kB=4\n"
    vmas = b"00001000-00003000 rw-p 0 00:00 0\n00003000-00007000 rw-p 0 00:00 0\n"

    regions = joined(numa, vmas)

    assert regions.start.tolist() == [0x1000, 0x3000]
    assert regions.end.tolist() == [0x3000, 0x7000]
    assert regions.pages.tolist() == [[0, 1], [2, 0]]
    assert regions.kind.tolist() == [RegionKind.HEAP, RegionKind.ANON]
    assert regions.mempolicy.tolist() == [Mempolicy.DEFAULT, Mempolicy.BIND]
    assert regions.mapmax.tolist() == [1, 4]
    assert regions.anon_pages.tolist() == [1, 2]
    assert regions.page_bytes.tolist() == [4096, 4096]


def test_rows_of_one_file_only_and_rows_without_pages_are_dropped():
    numa = b"1000 default N0=1\n2000 default\n3000 default N0=1\n4000 default N7=1\n"
    vmas = b"2000-3000 rw-p 0 00:00 0\n3000-4000 rw-p 0 00:00 0\n4000-5000 rw-p 0 00:00 0\n5000-6000 r--p 0 00:00 0\n"

    assert joined(numa, vmas).start.tolist() == [0x3000]


def test_a_vma_that_merged_while_it_was_read_counts_once():
    numa = b"1000 default N0=1\n2000 default N0=1\n1000 default N0=2\n"
    vmas = b"1000-3000 rw-p 0 00:00 0\n2000-3000 rw-p 0 00:00 0\n"

    regions = joined(numa, vmas)

    assert regions.start.tolist() == [0x1000]
    assert regions.end.tolist() == [0x3000]


def test_a_process_without_memory_has_no_regions():
    regions = joined(b"", b"")

    assert len(regions) == 0
    assert regions.pages.shape == (0, 2)


STARTS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 4)), max_size=12)


@given(STARTS, STARTS)
def test_joined_regions_ascend_and_never_overlap(resident, mapped):
    numa = "".join(f"{start:x}000 default N0={pages}\n" for start, pages in resident).encode()
    vmas = "".join(
        f"{start:x}000-{start + length:x}000 rw-p 0 00:00 0\n" for start, length in mapped
    ).encode()

    regions = joined(numa, vmas)

    assert (regions.start[1:] >= regions.end[:-1]).all()
    assert {start >> 12 for start in regions.start.tolist()} <= {s for s, _ in resident} & {
        s for s, _ in mapped
    }
    assert {len(getattr(regions, name)) for name in REGION_COLUMNS} == {len(regions)}


def test_a_file_is_read_below_the_root_that_was_given(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/numa_maps").write_bytes(b"1000 default\n")

    assert numa_maps.read(7, tmp_path) == b"1000 default\n"
    with pytest.raises(FileNotFoundError):
        numa_maps.read(8, tmp_path)


def test_reading_vma_by_vma_gives_the_same_lines(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    text = b"".join(b"%x000 default anon=%d N0=%d kernelpagesize_kB=4\n" % (at, at, at) for at in range(99))
    (tmp_path / "proc/7/numa_maps").write_bytes(text)

    assert numa_maps.read_by_vma(7, tmp_path) == text
    with pytest.raises(FileNotFoundError):
        numa_maps.read_by_vma(8, tmp_path)


def test_ten_thousand_lines_stay_columns():
    text = b"".join(
        b"%012x default anon=1 dirty=1 N1=1 kernelpagesize_kB=4\n" % (at << 12) for at in range(10_000)
    )

    read = numa_maps.parse(text, (0, 1), 4096)

    assert read.start.dtype == np.uint64
    assert {getattr(read, name).dtype.name for name in COLUMNS[1:]} == {"int64"}
    assert read.pages.sum(axis=0).tolist() == [0, 10_000]
