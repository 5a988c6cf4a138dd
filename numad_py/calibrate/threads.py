# SPDX-License-Identifier: Apache-2.0

"""Run work on chosen CPUs, in threads of our own that end with it."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Result = TypeVar("Result")

_PATIENCE_S: Final = 10.0  # for the slowest thread to start; then something keeps it off its CPU


def on_cpus(work: Mapping[int, Callable[[], Result]]) -> dict[int, Result]:
    """Do one thing on each CPU, all begun together; give what each gave.

    Raises OSError where a CPU is not ours, and threading.BrokenBarrierError where a thread never ran.
    """
    ready = threading.Barrier(len(work))

    def pinned(cpu: int, job: Callable[[], Result]) -> Result:
        os.sched_setaffinity(0, {cpu})  # 0 is this thread: nobody's mask outlives it
        ready.wait(_PATIENCE_S)
        return job()

    with ThreadPoolExecutor(len(work)) as pool:
        running = {cpu: pool.submit(pinned, cpu, job) for cpu, job in work.items()}
        return {cpu: job.result() for cpu, job in running.items()}
