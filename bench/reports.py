# SPDX-License-Identifier: Apache-2.0

"""How much is heard of ranks that end their steps together, and what who floods the socket of progress costs.

As root, ``unshare --net sh -c 'sysctl net.unix.max_dgram_qlen=512; .venv/bin/python bench/reports.py'`` has as many words
wait as at the socket that systemd opens; with 10, as at one that the service would open in its own namespace.
"""

import contextlib
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from numad_py.daemon import reports
from numad_py.runtime import one_step, progress
from numad_py.sense.reported import Reported

RANKS, FLOODERS = (8, 32, 64), (1, 4)
STEPS, STEP_S = 8, 0.4
WORDS, WORD_REST_S = 100, 0.1
FLOOD_S = WORDS * WORD_REST_S
FORK = multiprocessing.get_context("fork")


class Heard(list):
    """By whom and when what was heard was said; all of it is kept as the daemon does."""

    def __init__(self):
        self._reported = Reported()

    def __call__(self, pid, word, time_s):
        self._reported.hear(pid, word, time_s)
        self.append((pid, time_s))


def rank(began_s):
    """End every step when all others do."""
    for step in range(1, STEPS + 1):
        with one_step():
            time.sleep(max(0.0, began_s + step * STEP_S - time.monotonic()))


def flood():
    """Send without end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as said:
        said.connect(os.environ["NUMAD_PROGRESS"])
        while True:
            with contextlib.suppress(BlockingIOError):
                said.send(b"1234 0.04")


def say_now_and_then():
    """Send a word, and none in its stead."""
    for _ in range(WORDS):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said, contextlib.suppress(BlockingIOError):
            said.sendto(b"1", socket.MSG_DONTWAIT, os.environ["NUMAD_PROGRESS"])
        time.sleep(WORD_REST_S)


def progress_often():
    """Say how far it came at each of its short steps."""
    for step in range(10**9):
        progress(step)
        time.sleep(0.002)


@contextlib.contextmanager
def running(*calls):
    """Have each called in a process of its own."""
    processes = [FORK.Process(target=call, args=arguments) for call, *arguments in calls]
    for each in processes:
        each.start()
    yield processes
    for each in processes:
        each.kill()
        each.join()


@contextlib.contextmanager
def listening():
    """Hear what is said; give that, and a function that tells the CPU seconds which this took."""
    heard = Heard()
    with tempfile.TemporaryDirectory() as folder, reports.heard(Path(folder), heard):
        os.environ["NUMAD_PROGRESS"] = f"{folder}/{reports.NAME}"
        (thread,) = (each.native_id for each in threading.enumerate() if each.name == reports.NAME)
        spent = Path(f"/proc/self/task/{thread}/schedstat")
        yield heard, lambda: int(spent.read_text().split()[0]) / 1e9


def measure_ranks(count):
    """Print a line of figures."""
    with listening() as (heard, used_s):
        began_s = time.monotonic() + 1.0
        with running(*[(rank, began_s)] * count) as ranks:
            for each in ranks:
                each.join()
            time.sleep(1)
            by_rank = Counter(pid for pid, _ in heard)
            each = [by_rank[each.pid] for each in ranks]
            print(
                f"{count} ranks: {len(heard)} of {count * STEPS} words, {min(each)} to {max(each)} of a rank,"
                f" {used_s() / len(heard) * 1e6:.0f} us each"
            )


def measure_flood(count):
    """Print a line of figures."""
    with (
        listening() as (heard, used_s),
        running(*[(flood,)] * count, (say_now_and_then,), (progress_often,)) as all_of,
    ):
        before_s = used_s()
        time.sleep(FLOOD_S)
        by = Counter(pid for pid, _ in list(heard))
        print(
            f"{count} flooding: {(used_s() - before_s) / FLOOD_S:.3f} of a core for {len(heard) / FLOOD_S:.0f} words/s;"
            f" {by[all_of[-2].pid]} of {WORDS} words now and then, {by[all_of[-1].pid]} by `progress` in {FLOOD_S:.0f} s"
        )


def main():
    """Measure each."""
    for count in RANKS:
        measure_ranks(count)
    for count in FLOODERS:
        measure_flood(count)


if __name__ == "__main__":
    main()
