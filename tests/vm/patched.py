# SPDX-License-Identifier: Apache-2.0

"""Run a command while the kernel stays patched for perf events: ``python -m tests.vm.patched COMMAND...``.

With the first perf event, and the first of each software event, the kernel patches its scheduler and its page faults,
and with the last one again. An emulated CPU (QEMU 7.2) that runs them meanwhile can trip over the patch: it oopsed with
"int3", or went round in finish_task_switch() or handle_mm_fault() for ever. So a process that outlives the command
keeps one of each open until the machine goes off.
"""

import ctypes
import os
import signal
import struct
import sys

_PERF_EVENT_OPEN = 298  # arch/x86/entry/syscalls/syscall_64.tbl
_SOFTWARE, _KINDS = 1, 12  # enum perf_type_id, enum perf_sw_ids in include/uapi/linux/perf_event.h
_SIZE = 64  # PERF_ATTR_SIZE_VER0
_DISABLED = 1


def leave_a_holder():
    """Leave a process of nobody's behind that has the events open; return once it has."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open_events()
            os.write(writer, b".")
            signal.pause()
        os._exit(0)
    os.wait()
    os.close(writer)
    if not os.read(reader, 1):
        sys.exit("no perf event could be opened: see above")
    os.close(reader)


def open_events():
    """Open one software event of each kind on this process, none of which counts."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    for kind in range(_KINDS):
        attributes = struct.pack("=IIQQQQQIIQ", _SOFTWARE, _SIZE, kind, 0, 0, 0, _DISABLED, 0, 0, 0)
        if syscall(_PERF_EVENT_OPEN, attributes, 0, -1, -1, 0) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"software event {kind}")


if __name__ == "__main__":
    leave_a_holder()
    os.execvp(sys.argv[1], sys.argv[1:])
