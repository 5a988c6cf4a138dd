# SPDX-License-Identifier: Apache-2.0

"""The daemon stays where it disturbs nobody."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from numad_py.daemon import housekeeping
from tests.builders import TWO_NODES

OURS = os.sched_getaffinity(0)
FIRST = min(OURS)

pytestmark = pytest.mark.skipif(len(OURS) == 1, reason="needs two CPUs to choose from")


def kept(**reserved):
    """Keep house in a thread, whose mask ends with it."""

    def here():
        housekeeping.keep(replace(TWO_NODES, **reserved))
        return os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(here).result()


def test_isolated_and_nohz_full_cpus_are_left():
    assert kept(isolated_cpus=(FIRST,)) == OURS - {FIRST}
    assert kept(nohz_full_cpus=(FIRST,)) == OURS - {FIRST}


def test_where_every_cpu_is_reserved_the_mask_stays_as_it_is():
    assert kept(isolated_cpus=tuple(OURS)) == OURS


@pytest.mark.parametrize("why", [OSError(errno.EPERM, "as in a container"), NotImplementedError()])
def test_where_its_own_mempolicy_may_not_be_chosen_it_goes_on(monkeypatch, why):
    def refused():
        raise why

    monkeypatch.setattr(housekeeping.mempolicy, "allocate_locally", refused)
    assert kept(isolated_cpus=(FIRST,)) == OURS - {FIRST}
