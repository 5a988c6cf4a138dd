# SPDX-License-Identifier: Apache-2.0

"""The price of moving a page is measured where that can be done, and left open everywhere else."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from numad_py.act import price
from tests.builders import topology


@pytest.fixture
def targets(monkeypatch):
    """Let nodes 0 to 2 be allowed and every page arrive; hold where they went."""
    went = []

    def move_pages(pid, addresses, target):
        assert pid == os.getpid()
        went.append(target)
        return 0, np.full(len(addresses), target, np.int32)

    monkeypatch.setattr(price.proc_status, "read", lambda _: SimpleNamespace(nodes_allowed=(0, 1, 2)))
    monkeypatch.setattr(price.migration, "move_pages", move_pages)
    return went


def test_our_own_pages_go_there_and_back_between_two_nodes_with_cpus(targets):
    assert price.move_4k_page_ns(topology(ids=(0, 1, 2), cpuless=(1,))) > 0
    assert targets == [0, 2, 0, 2, 0, 2, 0]


@pytest.mark.parametrize(
    "on",
    [
        topology(ids=(0,)),
        topology(ids=(0, 1), cpuless=(1,)),
        topology(ids=(0, 1), node_bytes=0),
        topology(ids=(0, 3)),
        topology(page_bytes=65536),
    ],
    ids=["one node", "no CPUs", "no memory", "not allowed", "pages of 64 KiB"],
)
def test_nothing_is_moved_for_a_price_that_could_not_be_had(on, targets):
    assert price.move_4k_page_ns(on) is None
    assert targets == []


def test_a_page_that_stayed_leaves_the_price_open(targets, monkeypatch):
    monkeypatch.setattr(price.migration, "move_pages", lambda *_: (1, np.zeros(price.PAGES, np.int32)))

    assert price.move_4k_page_ns(topology()) is None


def test_a_kernel_that_refuses_leaves_the_price_open(targets, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(price.migration, "move_pages", refuse)

    assert price.move_4k_page_ns(topology()) is None


@pytest.fixture
def huge_bytes(monkeypatch):
    """Let huge pages be 2 MiB, and hold what the kernel says there is of them before and after they are touched."""
    says = [0, 32 << 20]
    monkeypatch.setattr(price.hugepages, "pmd_bytes", lambda: 2 << 20)
    monkeypatch.setattr(price.smaps_rollup, "read_huge_bytes", lambda _: says.pop(0))
    return says


def test_small_and_huge_pages_and_calls_have_prices(targets, huge_bytes):
    prices = price.prices(topology())

    assert set(prices.page_ns) == {4096, 2 << 20}
    assert prices.call_ns >= 0
    assert targets == [0, 1, 0, 1, 0, 1, 0] * 3


def test_huge_pages_that_the_kernel_did_not_give_have_no_price(targets, huge_bytes):
    huge_bytes[:] = [0, 2 << 20]

    assert set(price.prices(topology()).page_ns) == {4096}


def test_a_kernel_without_huge_pages_has_no_price_for_them(targets, monkeypatch):
    monkeypatch.setattr(price.hugepages, "pmd_bytes", lambda: 0)

    assert set(price.prices(topology()).page_ns) == {4096}


def test_huge_pages_are_moved_by_their_own_addresses(targets, huge_bytes, monkeypatch):
    moved = []

    def move_pages(_, addresses, target):
        moved.append(addresses)
        return 0, np.full(len(addresses), target, np.int32)

    monkeypatch.setattr(price.migration, "move_pages", move_pages)

    price.prices(topology())

    huge = moved[-1]
    assert len(huge) == price.HUGE_PAGES
    assert set(np.diff(huge).tolist()) == {2 << 20}
    assert huge[0] % (2 << 20) == 0


def test_where_nothing_can_be_moved_there_are_no_prices(targets):
    assert price.prices(topology(ids=(0,))) is None
