# SPDX-License-Identifier: Apache-2.0

"""Hold on to one process and its memory, and notice when either is another's."""

import errno
import os
import select
from enum import Enum
from functools import cached_property
from types import TracebackType
from typing import Self

from numad_py.kernel import placement, proc_stat
from numad_py.model import ProcessKey


class Still(Enum):
    """What became of a process since it was opened."""

    SAME = "same process, same memory"
    EXECED = "same process, other memory"
    GONE = "the process ended"


class HeldProcess:
    """A process held by a pidfd and its start time, through every exec; it takes no right to hold another's.

    Raises ProcessLookupError when the process is gone or the PID is another's.
    """

    def __init__(self, key: ProcessKey) -> None:
        self.key = key
        self._fds: list[int] = []
        try:
            self._fds.append(os.pidfd_open(key.pid))
            stat = proc_stat.read(key.pid)
        except FileNotFoundError:
            self.close()
            raise ProcessLookupError(f"process {key.pid} is gone") from None
        except BaseException:
            self.close()
            raise
        if stat.start_ticks != key.start_ticks:
            self.close()
            raise ProcessLookupError(f"process {key.pid} is another one now")

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, and its PID may be another's."""
        ended = select.poll()
        ended.register(self._fds[0], select.POLLIN)
        return bool(ended.poll(0))

    def close(self) -> None:
        """Let go. Safe to call twice."""
        while self._fds:
            os.close(self._fds.pop())

    __del__ = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OpenProcess(HeldProcess):
    """A process held by an open view of its memory too."""

    # An open /proc/PID/maps does not: it belongs to
    # the memory it was opened on (proc_mem_open() in fs/proc/base.c) and reads as empty
    # once that is gone. Reading its first byte walks no page table, as numa_maps would.

    def __init__(self, key: ProcessKey) -> None:
        super().__init__(key)
        try:
            self._fds.append(os.open(f"/proc/{key.pid}/maps", os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            self.close()
            raise ProcessLookupError(f"process {key.pid} is gone") from None
        except BaseException:
            self.close()
            raise

    def still(self) -> Still:
        """Say whether process and memory are those that were opened."""
        _, maps, *_ = self._fds
        if self.has_ended:
            return Still.GONE
        try:
            return Still.SAME if os.pread(maps, 1, 0) else Still.EXECED
        except ProcessLookupError:
            return Still.GONE

    @cached_property
    def pagemap(self) -> int | None:
        """An open /proc/PID/pagemap that answers PAGEMAP_SCAN; None on older kernels or without the right."""
        try:
            # Mode 0400, so that another user's needs CAP_DAC_READ_SEARCH besides CAP_SYS_PTRACE.
            pagemap = os.open(f"/proc/{self.key.pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        self._fds.append(pagemap)
        try:
            placement.scan(pagemap, 0, 0, most=1)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise
        return pagemap
