# SPDX-License-Identifier: Apache-2.0

"""Each kind of page fault is told for what it is, and each machine's sources are found."""

import ctypes
import mmap
import os
import signal
import struct

import numpy as np
import pytest

from numad_py.kernel import ibs, perf_events
from numad_py.kernel.perf_ring import Ring, parse, record_type
from numad_py.model import AccessSource
from numad_py.sense.investigate.access_sources import HINT_FAULTS, PEBS, available, is_hint_fault

PAGES = 8
PAGE = mmap.PAGESIZE
KIND = record_type(HINT_FAULTS.fields)
_libc = ctypes.CDLL(None, use_errno=True)


def area(**how):
    return mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, **how)


def address_of(memory):
    return np.frombuffer(memory, np.uint8).ctypes.data


def faults_of(touch, address):
    """Give the samples that touching some memory makes, as the sampler would take them."""
    try:
        sampling = perf_events.Sampling(1, HINT_FAULTS.fields)
        event = perf_events.open_event(perf_events.PAGE_FAULTS, pid=0, sampling=sampling)
    except OSError as error:
        pytest.skip(f"page faults cannot be sampled here: {error}")
    ring = Ring(event, 16)
    perf_events.refresh(event, 1000)
    touch()
    samples = parse(ring.drain(), KIND).samples
    ring.close()
    os.close(event)
    return samples[(samples["address"] >= address) & (samples["address"] < address + PAGES * PAGE)]


def write_each(memory):
    for page in range(PAGES):
        memory[page * PAGE] = 2


def test_a_first_touch_is_no_access():
    memory = area()

    samples = faults_of(lambda: write_each(memory), address_of(memory))

    assert len(samples) == PAGES
    assert not is_hint_fault(samples).any()


def test_a_copy_on_write_is_no_access():
    memory = area()
    write_each(memory)
    child = os.fork()
    if child == 0:
        signal.pause()

    samples = faults_of(lambda: write_each(memory), address_of(memory))

    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(samples) == PAGES
    assert not is_hint_fault(samples).any()


def test_a_fault_of_a_file_is_no_access(tmp_path):
    (tmp_path / "file").write_bytes(bytes(PAGES * PAGE))
    with (tmp_path / "file").open("rb") as file:
        memory = mmap.mmap(file.fileno(), PAGES * PAGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)

    samples = faults_of(lambda: memory[0], address_of(memory))

    assert len(samples) == 1
    assert not is_hint_fault(samples).any()


def test_a_page_that_is_there_and_was_made_to_fault_is_an_access():
    memory = area()
    write_each(memory)
    address = address_of(memory)
    # int mprotect(void *addr, size_t len, int prot); PROT_NONE is what the kernel's balancing makes of a page too.
    assert _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGES * PAGE), ctypes.c_int(0)) == 0
    reader, writer = os.pipe()

    def read_each():
        for page in range(PAGES):
            assert _libc.write(writer, ctypes.c_void_p(address + page * PAGE), ctypes.c_size_t(1)) == -1

    samples = faults_of(read_each, address)

    os.close(reader)
    os.close(writer)
    assert len(samples) == PAGES
    assert is_hint_fault(samples).all()


def write(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


DEVICES = "sys/bus/event_source/devices"


@pytest.mark.parametrize(
    ("balancing", "found"), [("0\n", ()), ("1\n", (HINT_FAULTS,)), ("2\n", (HINT_FAULTS,))]
)
def test_hint_faults_are_there_while_the_kernel_balances(tmp_path, balancing, found):
    write(tmp_path, "proc/sys/kernel/numa_balancing", balancing)

    assert available(tmp_path) == found


def test_a_kernel_without_numa_has_no_source(tmp_path):
    assert available(tmp_path) == ()


def test_hardware_comes_before_hint_faults(tmp_path):
    write(tmp_path, f"{DEVICES}/cpu/events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n")
    write(tmp_path, "proc/sys/kernel/numa_balancing", "1\n")

    assert available(tmp_path) == (PEBS, HINT_FAULTS)


@pytest.mark.parametrize(("filter_", "config"), [(None, 0x80000), ("config:16\n", 0x90000)])
def test_ibs_counts_ops_and_samples_misses_only_where_it_can(tmp_path, filter_, config):
    write(tmp_path, f"{DEVICES}/ibs_op/type", "11\n")
    if filter_:
        write(tmp_path, f"{DEVICES}/ibs_op/format/l3missonly", filter_)

    (source,) = available(tmp_path)

    assert (source.kind, source.event.type, source.event.config) == (AccessSource.IBS, 11, config)
    assert source.rate.period % 16 == source.rate.least % 16 == 0


def test_ibs_samples_are_read_whatever_more_registers_a_cpu_adds(tmp_path):
    write(tmp_path, f"{DEVICES}/ibs_op/type", "11\n")
    (source,) = available(tmp_path)
    load, nothing = 1 | 1 << 17, 0
    records = b"".join(
        struct.pack("=IHHiiQQIII", 9, 0, 8 + 32 + 4 + 4 + 72, 1, 2, 3, 4, 5, 0, 4 + 72)
        + struct.pack("=I9Q", 0x3FF, 0, 0, 0, 0, data_3, 0xABC000, 0, 0, 0)
        for data_3 in (load, nothing)
    )

    samples = parse(
        np.frombuffer(records, np.uint8), record_type(source.fields, raw_bytes=source.raw_bytes)
    ).samples

    assert source.accessed(samples).tolist() == [True, False]
    assert ibs.decode(samples["raw"]).address.tolist() == [0xABC000] * 2


def test_pebs_samples_without_an_address_are_no_accesses():
    samples = np.zeros(2, record_type(PEBS.fields))
    samples["address"] = [0, 0x7F00_0000_0000]

    assert PEBS.accessed(samples).tolist() == [False, True]
