# SPDX-License-Identifier: Apache-2.0

"""Cells of bench/matrix_in_guests.py, small and short: what the daemon comes to, by the accesses that QEMU counted.

Two more, workers of one array and of one file, are in test_workers_memory.py, by where their pages are.
"""

import contextlib
import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm.cells import DAEMON, SETTLED_SECONDS, balancing, by_second
from tests.vm.moving import MB
from tests.vm.nine import NINE, running
from tests.vm.running import PATIENCE_S, REST

EACH_MB = 64
LOCAL_SHARE = 0.15
TEN_STAYS_S = 20

pytestmark = pytest.mark.guest("two-nodes-counted")


@pytest.fixture
def cell(tmp_path, guest, daemon):
    """Let a workload run beside the daemon: ``cell("late-bound")`` gives the daemon, and counts by second from the label on."""
    with contextlib.ExitStack() as stack:

        def start(name, *, on=False):
            stack.enter_context(balancing(on=on))
            service = daemon(**DAEMON)
            workload = replace(NINE[name], mb=EACH_MB)
            stack.enter_context(running(workload, "default", tmp_path / "no-file", REST))
            return service, by_second(guest)

        yield start


def wait_until_local(counts):
    """Count until some seconds in a row were nearly local."""
    until_s, shares = time.monotonic() + PATIENCE_S, []
    for counted in counts:
        shares.append(counted.remote_share)
        last = shares[-SETTLED_SECONDS:]
        if len(last) == SETTLED_SECONDS and max(last) < LOCAL_SHARE:
            break
        assert time.monotonic() < until_s, last
    print(f"\nlocal after {len(shares) - SETTLED_SECONDS} s", end="")


def moved_mb(service):
    """Give what the daemon moved: the kernel, which counts all movers, compacts memory in between."""
    service.stop()
    return sum(outcome.moved_bytes for _, outcome in service.outcomes()) / MB


@pytest.mark.parametrize(("name", "jobs"), [("late-bound", 1), ("crossed-jobs", 2)])
def test_what_a_job_uses_comes_to_it_and_hardly_a_page_moves_twice(cell, name, jobs):
    service, counts = cell(name)

    wait_until_local(counts)

    assert moved_mb(service) < 1.5 * jobs * EACH_MB


def test_beside_the_kernels_own_balancing_it_comes_too(cell):
    service, counts = cell("late-bound", on=True)

    wait_until_local(counts)

    own = Path(f"/proc/{service.process.pid}/numa_maps").read_text().splitlines()
    assert {line.split()[1] for line in own} == {"local"}  # which the kernel passes over


def test_a_job_that_is_soon_elsewhere_again_keeps_its_memory_where_it_is(cell):
    service, counts = cell("wanderer-2-s")

    list(itertools.islice(counts, TEN_STAYS_S))

    assert moved_mb(service) < 2 * EACH_MB  # following would move them ten times
