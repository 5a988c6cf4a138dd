# SPDX-License-Identifier: Apache-2.0

"""A CPU's caches for data are read, the nearest first, and instructions' are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import caches
from numad_py.kernel.caches import Cache


def cache(root, index, **files):
    """Write one cache of CPU 3."""
    folder = root / f"sys/devices/system/cpu/cpu3/cache/index{index}"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def test_caches_are_read_from_the_nearest_to_the_last(tmp_path):
    cache(tmp_path, 0, type="Unified", level=3, size="32768K", shared_cpu_list="0-7")
    cache(tmp_path, 1, type="Data", level=1, size="48K", shared_cpu_list="3,7")
    cache(tmp_path, 2, type="Instruction", level=1, size="32K", shared_cpu_list="3,7")
    (tmp_path / "sys/devices/system/cpu/cpu3/cache/uevent").touch()

    found = caches.read(3, tmp_path)

    assert found == (Cache(1, (3, 7), 48 << 10), Cache(3, tuple(range(8)), 32 << 20))


def test_a_cache_of_a_size_that_firmware_did_not_tell_is_left_out(tmp_path):
    cache(tmp_path, 0, type="Unified", level=3, shared_cpu_list="0-7")

    assert caches.read(3, tmp_path) == ()


def test_a_kernel_that_knows_no_caches_gives_none(tmp_path):
    assert caches.read(3, tmp_path) == ()


def test_a_level_that_is_none_is_refused(tmp_path):
    cache(tmp_path, 0, type="Data", level="one", size="48K", shared_cpu_list="3")

    with pytest.raises(caches.Malformed, match="level: 'one'"):
        caches.read(3, tmp_path)


@given(st.binary(max_size=20) | st.sampled_from([b"32M\n", b"K", b"-1K", b"12345678901K", b"32768K\n\n"]))
def test_only_kibibytes_are_a_size(text):
    try:
        found = caches.parse_bytes(text)
    except caches.Malformed:
        return

    assert text.rstrip(b"\n") == f"{found >> 10:0{len(text.strip()) - 1}}K".encode()
