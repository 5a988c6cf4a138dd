# SPDX-License-Identifier: Apache-2.0

"""What a replay foretells of nine workloads in guests goes on to hold where it did."""

import pytest

from bench import foretell


def test_as_many_figures_and_orders_hold_as_the_docs_say(capsys):
    status = foretell.main()

    assert "29 of 36 within 10%; 19 of 24 in the right order" in capsys.readouterr().out
    assert status == 0


def test_fewer_would_fail(monkeypatch, capsys):
    monkeypatch.setattr(foretell, "FEWEST", {"cells": 30, "orders": 19})

    assert foretell.main() == 1
    assert "MISSES" in capsys.readouterr().out


def test_counted_shares_of_circles_are_weighed_by_cpu_time():
    counted = [[30, 10], [0, 60]]

    assert foretell.by_cpu_time(counted, [1.0, 1.0]) == pytest.approx(0.125)
    assert foretell.by_cpu_time(counted, [1.0, 0.0]) == pytest.approx(0.25)
