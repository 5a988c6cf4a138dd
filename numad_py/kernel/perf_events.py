# SPDX-License-Identifier: Apache-2.0

"""Count and sample events of the CPU and of the kernel with perf_event_open(2)."""

import ctypes
import fcntl
import os
import struct
import time
from ctypes import c_int, c_ulong
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from numad_py.kernel._call import call

# enum perf_type_id and perf_sw_ids in include/uapi/linux/perf_event.h
TYPE_HARDWARE: Final = 0
TYPE_SOFTWARE: Final = 1
TYPE_RAW: Final = 4


@dataclass(frozen=True)
class Event:
    """What is counted; ``type`` is a PMU's, ``config`` and its extensions are raw codes of that PMU."""

    name: str
    type: int
    config: int
    config1: int = 0
    config2: int = 0


CPU_CYCLES: Final = Event("cycles", TYPE_HARDWARE, 0)
INSTRUCTIONS: Final = Event("instructions", TYPE_HARDWARE, 1)
PAGE_FAULTS: Final = Event("page-faults", TYPE_SOFTWARE, 2)
CONTEXT_SWITCHES: Final = Event("context-switches", TYPE_SOFTWARE, 3)
CPU_MIGRATIONS: Final = Event("cpu-migrations", TYPE_SOFTWARE, 4)


class Field(IntFlag):
    """What a sample holds: enum perf_event_sample_format, in the order of a record's bytes but for a few."""

    IP = 1 << 0
    TID = 1 << 1
    TIME = 1 << 2
    ADDR = 1 << 3
    READ = 1 << 4
    CALLCHAIN = 1 << 5
    ID = 1 << 6
    CPU = 1 << 7
    PERIOD = 1 << 8
    STREAM_ID = 1 << 9
    RAW = 1 << 10
    WEIGHT = 1 << 14
    DATA_SRC = 1 << 15
    IDENTIFIER = 1 << 16
    PHYS_ADDR = 1 << 19
    DATA_PAGE_SIZE = 1 << 22


@dataclass(frozen=True)
class Sampling:
    """One record every ``period`` events; a wake-up when ``wakeup_bytes`` of records wait.

    Times in records are CLOCK_MONOTONIC.
    """

    period: int
    fields: Field
    precise_ip: int = 0
    wakeup_bytes: int = 0


@dataclass(frozen=True)
class Reading:
    """A count, and for how long it was wanted and really counted: counters take turns when there are too few."""

    value: int
    enabled_ns: int
    running_ns: int


# struct perf_event_attr up to PERF_ATTR_SIZE_VER5 (112 bytes), which every kernel since 4.8 takes.
_ATTR: Final = struct.Struct("=IIQQQQQIIQQQQIiQIHH")
_READING: Final = struct.Struct("=QQQ")
_FORMAT_TOTAL_TIMES: Final = 1 << 0 | 1 << 1  # PERF_FORMAT_TOTAL_TIME_ENABLED, _RUNNING
_FORMAT_GROUP: Final = 1 << 3

_DISABLED: Final = 1 << 0
_INHERIT: Final = 1 << 1
# Since Linux commit 2b26f0aa0049 ("perf: Support only inheriting events if cloned with CLONE_THREAD") (in v5.13).
_INHERIT_THREAD: Final = 1 << 35
_EXCLUDE_KERNEL: Final = 1 << 5
_EXCLUDE_HV: Final = 1 << 6
_WATERMARK: Final = 1 << 14
_PRECISE_IP_SHIFT: Final = 15
_USE_CLOCKID: Final = 1 << 25

_PID_CGROUP: Final = 1 << 2  # PERF_FLAG_PID_CGROUP
_CLOEXEC: Final = 1 << 3  # PERF_FLAG_FD_CLOEXEC

_ENABLE: Final = 0x2400  # PERF_EVENT_IOC_ENABLE
_DISABLE: Final = 0x2401
_REFRESH: Final = 0x2402
_PERIOD: Final = 0x40082404


def open_event(  # noqa: PLR0913 - the system call takes as many
    event: Event,
    *,
    pid: int = -1,
    cpu: int = -1,
    cgroup: int | None = None,
    sampling: Sampling | None = None,
    inherit: bool = False,
    user_only: bool = False,
    group: int | None = None,
    threads_only: bool = False,
) -> int:
    """Open an event, switched off, and give its descriptor.

    ``pid`` is a thread's, 0 for the caller, -1 for everyone on ``cpu``; ``cgroup`` is an open
    directory of a v2 (or perf_event v1) cgroup, which needs a ``cpu``. ``inherit`` follows threads
    and children begun later, with ``threads_only`` no children. ``group`` is the descriptor of the event
    that leads it, with which all of the group are switched and read, or -1 to lead one.

    Raises PermissionError (perf_event_paranoid, CAP_PERFMON), FileNotFoundError for an event that this machine
    does not have, ProcessLookupError, and OSError for the rest.
    """
    joins = group is not None and group >= 0
    flags = (0 if joins else _DISABLED) | (_INHERIT if inherit else 0)
    flags |= _INHERIT_THREAD if threads_only else 0
    formats = _FORMAT_TOTAL_TIMES | (0 if group is None else _FORMAT_GROUP)
    if user_only:
        flags |= _EXCLUDE_KERNEL | _EXCLUDE_HV
    period = fields = wakeup = clock = 0
    if sampling:
        period, fields, wakeup = sampling.period, int(sampling.fields), sampling.wakeup_bytes
        clock = time.CLOCK_MONOTONIC
        flags |= _USE_CLOCKID | sampling.precise_ip << _PRECISE_IP_SHIFT | (_WATERMARK if wakeup else 0)
    packed = _ATTR.pack(
        event.type, _ATTR.size, event.config, period, fields, formats, flags, wakeup, 0,
        event.config1, event.config2, 0, 0, 0, clock, 0, 0, 0, 0,
    )  # fmt: skip
    attr = ctypes.create_string_buffer(packed, len(packed))
    # int perf_event_open(struct perf_event_attr *attr, pid_t pid, int cpu, int group_fd, unsigned long flags);
    return call(
        "perf_event_open",
        ctypes.byref(attr),
        c_int(pid if cgroup is None else cgroup),
        c_int(cpu),
        c_int(-1 if group is None else group),
        c_ulong(_CLOEXEC | (0 if cgroup is None else _PID_CGROUP)),
    )


def enable(event: int) -> None:
    """Begin to count, from where it stopped."""
    fcntl.ioctl(event, _ENABLE, 0)


def disable(event: int) -> None:
    """Stop counting."""
    fcntl.ioctl(event, _DISABLE, 0)


def refresh(event: int, samples: int) -> None:
    """Sample, until that many more samples than allowed before are taken; the kernel then switches it off itself."""
    fcntl.ioctl(event, _REFRESH, samples)


def set_period(event: int, period: int) -> None:
    """Sample every so many events from now on."""
    fcntl.ioctl(event, _PERIOD, struct.pack("=Q", period))


def read(event: int) -> Reading:
    """Read a counter."""
    return Reading(*_READING.unpack(os.read(event, _READING.size)))
