# SPDX-License-Identifier: Apache-2.0

"""A process that causes a known number of events when told to: page faults, context switches, migrations.

It imports nothing that begins threads.
"""

import contextlib
import mmap
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

PAGE = mmap.PAGESIZE
CPUS = sorted(os.sched_getaffinity(0))[:2]


def faults(number):
    """Touch that many fresh pages."""
    memory = mmap.mmap(-1, number * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages refuses
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, number * PAGE, PAGE):
        memory[at] = 1


def sleeps(number):
    """Go to sleep that often."""
    for _ in range(number):
        time.sleep(0.0005)


def hops(number):
    """Move that often between the first CPU and another; nothing moves where there is one CPU."""
    for turn in range(number):
        os.sched_setaffinity(0, {CPUS[(turn + 1) % len(CPUS)]})


def stay():
    """Move to the first CPU."""
    os.sched_setaffinity(0, {CPUS[0]})


def in_thread(word, number):
    """Do it in a thread that is born for it."""
    thread = threading.Thread(target=DEEDS[word], args=(int(number),))
    thread.start()
    thread.join()


DEEDS = {"faults": faults, "sleeps": sleeps, "hops": hops}


class Child:
    """Such a process, idle until told."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.counted"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.tell("faults", 1)  # whatever Python still has to load is loaded now

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    @property
    def pid(self):
        return self.process.pid

    def tell(self, *words):
        """Have it done, and wait until it is."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def switches(self):
        """Give how often its threads were switched from, as /proc tells."""
        texts = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/status")]
        return sum(int(number) for text in texts for number in re.findall(r"ctxt_switches:\s+(\d+)", text))


def main():
    stay()
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "thread":
            in_thread(*rest)
        else:
            DEEDS[word](int(rest[0]))
        print("done", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
