# SPDX-License-Identifier: Apache-2.0

"""Record every tick, for as long as there is a disk that takes it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

from numad_py import trace
from numad_py.daemon import trusted
from numad_py.daemon.service import Service
from numad_py.model import Tick

_OF_THE_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class Sink(Protocol):
    """Takes ticks: a trace writer, or nobody."""

    def write(self, tick: Tick) -> None:
        """Take one tick."""
        ...


class Nobody:
    """Takes ticks and forgets them."""

    def write(self, tick: Tick) -> None:
        """Forget it."""


@contextmanager
def recording(service: Service) -> Iterator[Sink]:
    """Open the trace, if there is to be one; a disk without room ends it, and not the daemon."""
    opened: trace.Writer | trace.RingWriter | None = None
    if service.config.trace is not None:
        with _told_of_disk():
            opened = _opened(Path(service.config.trace), service.config.trace_ring_mb, service.header())
    try:
        yield opened or Nobody()
    finally:
        if opened:
            with _told_of_disk():
                opened.close()


def _opened(path: Path, ring_mb: int | None, header: trace.Header) -> trace.Writer | trace.RingWriter:
    trusted.check(path.parent, owners=(0, os.geteuid()))  # else it can become a link to any other folder
    if ring_mb is None:
        return trace.Writer(path, header)
    return trace.RingWriter(path, header, size_bytes=ring_mb << 20)


@contextmanager
def _told_of_disk() -> Iterator[None]:
    """Warn of a disk that fails, and go on; what an operator got wrong still stops the start."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        structlog.get_logger().warning("trace ended", note=str(error))


def written(sink: Sink, tick: Tick) -> Sink:
    """Write the tick; a trace that cannot hold it is at its end, and the next ticks go to nobody."""
    try:
        sink.write(tick)
    except (trace.AnotherTopology, OSError) as error:  # of the disk: full, over quota, broken, gone
        structlog.get_logger().warning("trace ended", note=str(error))
        return Nobody()
    return sink
