# SPDX-License-Identifier: Apache-2.0

"""Record what this machine's kernel prints, for the contract tests: ``python3 tests/recorded/record.py NAME``.

It starts two processes of its own, records them and the machine, and leaves
tests/recorded/NAME/{proc,sys}; write a NOTES.md beside them: kernel, hardware, date.
It needs nothing but Python, so that it runs on any machine worth recording.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SYSTEM = (
    "proc/meminfo",
    "proc/vmstat",
    "proc/zoneinfo",
    "sys/devices/system/cpu/online",
    "sys/devices/system/node/online",
    "sys/devices/system/node/node[0-9]*/cpulist",
    "sys/devices/system/node/node[0-9]*/distance",
    "sys/devices/system/node/node[0-9]*/meminfo",
)
PROCESS = ("maps", "numa_maps", "stat", "status", "task/*/stat")

# Every memory policy that the kernel has, files with blanks that are deleted or shared, two threads, and a
# command that looks like the end of its own field.
SPECIMEN = r"""
import ctypes, mmap, os, sys, tempfile, threading
libc = ctypes.CDLL(None)
MBIND = {"x86_64": 237, "aarch64": 235}[os.uname().machine]
PAGE = mmap.PAGESIZE
STATIC, RELATIVE, BALANCING = 1 << 15, 1 << 14, 1 << 13
kept = []

def touched(mapping):
    kept.append(mapping)
    for at in range(0, len(mapping), PAGE):
        mapping[at] = 1
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))

mask = ctypes.byref(ctypes.c_ulong(1))
for mode in (1, 2, 3, 5, 6, 1 | STATIC, 2 | RELATIVE, 2 | STATIC | BALANCING, 3 | STATIC):
    libc.syscall(MBIND, ctypes.c_void_p(touched(mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE))), ctypes.c_ulong(8 * PAGE),
                 ctypes.c_int(mode), mask, ctypes.c_ulong(64), ctypes.c_uint(0))
libc.syscall(MBIND, ctypes.c_void_p(touched(mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE))), ctypes.c_ulong(8 * PAGE),
             ctypes.c_int(4), None, ctypes.c_ulong(0), ctypes.c_uint(0))
touched(mmap.mmap(-1, 8 * PAGE))
for name in ("deleted = with blanks", "heap\n stack"):
    with tempfile.NamedTemporaryFile(suffix=name) as file:
        file.truncate(4 * PAGE)
        touched(mmap.mmap(file.fileno(), 4 * PAGE))
threading.Thread(target=threading.Event().wait, daemon=True).start()
open("/proc/self/comm", "w").write("a) R 1 (b\n c")
print(flush=True)
sys.stdin.read()
"""


def main():
    """Record this machine under the name given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    target = HERE / parser.parse_args().name
    for pattern in SYSTEM:
        for path in Path("/").glob(pattern):
            write(target / path.relative_to("/"), path.read_bytes())
    write(target / "proc/self/mountinfo", cgroup_mounts())
    record_process(target, [sys.executable, "-I", "-c", SPECIMEN])
    record_process(target, ["sh", "-c", "echo; read line"])


def cgroup_mounts():
    """Give the mounts of cgroups alone: the others say how this machine is used."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if re.search(rb" - (cgroup2?|sysfs|proc) ", line))


def record_process(target, command):
    """Start a process that waits for its input to end, and record it once it has printed a line."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        for pattern in PROCESS:
            for path in Path(f"/proc/{process.pid}").glob(pattern):
                write(target / path.relative_to("/"), path.read_bytes())


def write(path, text):
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


if __name__ == "__main__":
    main()
