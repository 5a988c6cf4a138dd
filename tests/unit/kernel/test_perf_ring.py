# SPDX-License-Identifier: Apache-2.0

"""What the kernel puts into a ring comes out whole: across the wrap, among records of other kinds, and nothing else."""

import mmap
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import perf_events
from numad_py.kernel.perf_events import Field
from numad_py.kernel.perf_ring import Malformed, Ring, parse, record_type

WHO = Field.TID | Field.ADDR | Field.CPU
KIND = record_type(WHO)
PAGE = os.sysconf("SC_PAGE_SIZE")


def sample(address, *, pid=7, tid=8, cpu=1):
    """Give a sample as include/uapi/linux/perf_event.h writes it down: header, pid, tid, addr, cpu, res."""
    return struct.pack("=IHHiiQII", 9, 0, 32, pid, tid, address, cpu, 0)


def lost(count):
    return struct.pack("=IHHQQ", 2, 0, 24, 1, count)


def lost_samples(count):
    return struct.pack("=IHHQ", 13, 0, 16, count)


def throttle():
    return struct.pack("=IHHQQQ", 5, 0, 32, 1, 2, 3)


def as_bytes(*records):
    return np.frombuffer(b"".join(records), np.uint8)


class FakeRing:
    """A file that looks like the mapping of an event: one page of control, then the data."""

    def __init__(self, pages):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the fixture
        self.file.truncate((1 + pages) * PAGE)
        self.size = pages * PAGE
        self.head = 0
        self.write(1024, struct.pack("=QQQQ", 0, 0, PAGE, self.size))

    def write(self, at, data):
        os.pwrite(self.file.fileno(), data, at)

    def put(self, data):
        """Write as the kernel does: the bytes, wrapping, then the head, which never wraps."""
        for byte in range(0, len(data), 8):
            self.write(PAGE + (self.head + byte) % self.size, data[byte : byte + 8])
        self.head += len(data)
        self.write(1024, struct.pack("=Q", self.head))

    @property
    def tail(self):
        return struct.unpack("=Q", os.pread(self.file.fileno(), 8, 1032))[0]


@pytest.fixture
def fake():
    ring = FakeRing(1)
    yield ring
    ring.file.close()


@pytest.fixture
def ring(fake):
    opened = Ring(fake.file.fileno(), 1)
    yield opened
    opened.close()


def test_samples_are_viewed_as_columns():
    records = parse(as_bytes(sample(0x1000), sample(0x2000, pid=9, tid=10, cpu=3)), KIND)

    assert records.samples["address"].tolist() == [0x1000, 0x2000]
    assert records.samples["pid"].tolist() == [7, 9]
    assert records.samples["tid"].tolist() == [8, 10]
    assert records.samples["cpu"].tolist() == [1, 3]
    assert (records.lost, records.throttled) == (0, 0)


def test_fields_lie_in_the_order_of_the_record_not_of_the_bits():
    kind = record_type(
        Field.IDENTIFIER | Field.IP | WHO | Field.TIME | Field.PERIOD | Field.PHYS_ADDR | Field.DATA_PAGE_SIZE
    )
    record = struct.pack("=IHHQQiiQQIIQQQ", 9, 0, 80, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9, 10)

    row = parse(as_bytes(record), kind).samples[0]

    names = ("identifier", "ip", "pid", "tid", "time_ns", "address", "cpu", "period")
    assert [int(row[name]) for name in (*names, "physical_address", "page_bytes")] == list(range(1, 11))


def test_of_a_raw_part_as_much_is_given_as_was_wanted():
    kind = record_type(Field.ADDR | Field.RAW, raw_bytes=4)
    record = struct.pack("=IHHQI12s", 9, 0, 32, 0x1000, 12, b"abcdefghijkl")

    records = parse(as_bytes(record, record), kind)

    assert records.samples["raw"].tobytes() == b"abcdabcd"
    assert records.samples["raw_bytes"].tolist() == [12, 12]


@pytest.mark.parametrize(
    "fields",
    [Field.ADDR | Field.CALLCHAIN, Field.READ, Field.RAW | Field.DATA_SRC, Field.RAW | Field.PHYS_ADDR],
)
def test_fields_without_a_fixed_place_are_refused(fields):
    with pytest.raises(ValueError, match="without a fixed place"):
        record_type(fields, raw_bytes=4)


def test_what_was_lost_or_throttled_is_counted_and_the_samples_around_it_kept():
    records = parse(
        as_bytes(sample(1), lost(5), sample(2), lost_samples(6), throttle(), throttle(), sample(3)), KIND
    )

    assert records.samples["address"].tolist() == [1, 2, 3]
    assert (records.lost, records.throttled) == (11, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 8,  # a record without length
        sample(1)[:-8],
        sample(1) + b"\0" * 7,
        struct.pack("=IHHQ", 9, 0, 16, 0),  # a sample too short for its fields
        struct.pack("=IHHQ", 2, 0, 16, 0),  # a loss without its number
        struct.pack("=IHH", 13, 0, 8),
    ],
)
def test_what_is_no_whole_record_is_refused(data):
    with pytest.raises(Malformed):
        parse(as_bytes(data), KIND)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_malformed(data):
    try:
        records = parse(as_bytes(data), KIND)
    except Malformed:
        return
    assert len(records.samples) * KIND.itemsize <= len(data)


@given(
    st.lists(
        st.one_of(
            st.integers(0, 2**64 - 1).map(lambda address: ("sample", address)),
            st.integers(0, 1000).map(lambda count: ("lost", count)),
            st.just(("throttle", 0)),
        )
    )
)
def test_every_mixture_of_records_is_told_apart(mixture):
    write = {"sample": sample, "lost": lost, "throttle": lambda _: throttle()}

    records = parse(as_bytes(*(write[kind](value) for kind, value in mixture)), KIND)

    assert records.samples["address"].tolist() == [value for kind, value in mixture if kind == "sample"]
    assert records.lost == sum(value for kind, value in mixture if kind == "lost")
    assert records.throttled == sum(kind == "throttle" for kind, _ in mixture)


def test_many_samples_with_odd_records_between_are_all_kept():
    rows = [sample(address) + (lost(1) if address % 700 == 0 else b"") for address in range(5000)]

    records = parse(as_bytes(*rows), KIND)

    assert records.samples["address"].tolist() == list(range(5000))
    assert records.lost == 8


def test_a_ring_is_emptied_and_its_place_given_back(fake, ring):
    fake.put(sample(1) + sample(2))

    first, second = ring.drain(), ring.drain()

    assert parse(first, KIND).samples["address"].tolist() == [1, 2]
    assert len(second) == 0
    assert fake.tail == fake.head


def test_records_come_out_whole_wherever_the_ring_wraps(fake, ring):
    seen = []

    for turn in range(
        40
    ):  # 41 odd records of 24 bytes put the wrap at every place that a record may be cut at
        fake.put(b"".join(sample(100 * turn + row) for row in range(41)) + lost(1))
        seen += parse(ring.drain(), KIND).samples["address"].tolist()

    assert fake.head > 10 * fake.size
    assert seen == [100 * turn + row for turn in range(40) for row in range(41)]


def test_a_full_ring_comes_out_whole(fake, ring):
    ring.drain()
    fake.put(sample(0) * 3)
    ring.drain()
    fake.put(b"".join(sample(row) for row in range(fake.size // 32)))

    assert parse(ring.drain(), KIND).samples["address"].tolist() == list(range(fake.size // 32))


def test_what_was_drained_stays_when_the_ring_is_written_over(fake, ring):
    fake.put(sample(1))
    data = ring.drain()

    fake.put(sample(2) * (fake.size // 32))

    assert parse(data, KIND).samples["address"].tolist() == [1]


def test_closing_twice_is_safe_and_unmaps(fake):
    inode = f" {os.fstat(fake.file.fileno()).st_ino} "
    ring = Ring(fake.file.fileno(), 1)
    mapped = inode in Path("/proc/self/maps").read_text()

    ring.close()
    ring.close()

    assert mapped
    assert inode not in Path("/proc/self/maps").read_text()


@pytest.fixture
def own_faults():
    """Give an event of this thread's page faults, and new pages to touch."""
    try:
        sampling = perf_events.Sampling(1, WHO)
        event = perf_events.open_event(perf_events.PAGE_FAULTS, pid=0, sampling=sampling, user_only=True)
    except OSError as error:
        pytest.skip(f"no page-fault event here: {error}")
    new = mmap.mmap(-1, 256 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    new.madvise(mmap.MADV_NOHUGEPAGE)
    own_ring = Ring(event, 8)
    yield event, own_ring, np.frombuffer(new, np.uint8)
    own_ring.close()
    os.close(event)


def of(touched, samples):
    first = touched.ctypes.data
    return samples[(samples["address"] >= first) & (samples["address"] < first + touched.nbytes)]


def test_this_machines_page_faults_come_with_address_thread_and_cpu(own_faults):
    event, own_ring, touched = own_faults
    perf_events.refresh(event, 64)

    touched[::PAGE] = 1

    samples = parse(own_ring.drain(), KIND).samples
    assert set(of(touched, samples)["pid"].tolist()) == {os.getpid()}
    assert set(samples["cpu"].tolist()) <= os.sched_getaffinity(0)
    assert len(samples) == 64  # of 256 faults the kernel took as many as it was allowed to


def test_a_longer_period_takes_fewer_samples(own_faults):
    event, own_ring, touched = own_faults
    perf_events.set_period(event, 8)
    perf_events.refresh(event, 1000)

    touched[::PAGE] = 1

    assert 30 <= len(of(touched, parse(own_ring.drain(), KIND).samples)) <= 33
