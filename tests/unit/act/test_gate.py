# SPDX-License-Identifier: Apache-2.0

"""The gate is open only while nobody speaks against acting."""

from numad_py.act.gate import Gate


def test_it_is_open_at_first():
    assert Gate().is_open


def test_each_opens_only_what_it_closed():
    gate = Gate()
    gate.close("operator", "paused")
    gate.close("health", "three crashes")

    gate.open("operator")

    assert not gate.is_open
    assert gate.closed_by == {"health": "three crashes"}


def test_opening_what_was_not_closed_changes_nothing():
    gate = Gate()

    gate.open("operator")

    assert gate.is_open
