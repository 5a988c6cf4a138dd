# SPDX-License-Identifier: Apache-2.0

"""The manager is told what sd_notify(3) knows, and nobody where nobody listens."""

import socket

import pytest
from structlog.testing import capture_logs

from numad_py.daemon import manager as module
from numad_py.daemon.manager import Manager


@pytest.fixture
def listening(tmp_path, monkeypatch):
    """Give the socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield listening


def told(listening):
    """Give all that it was told."""
    heard = []
    while True:
        try:
            heard.append(listening.recv(4096).decode())
        except BlockingIOError:
            return heard


def test_without_a_watchdog_each_turn_tells_the_status_alone(listening):
    Manager(1.0).turned("acting")

    assert told(listening) == ["STATUS=acting"]


def test_the_watchdog_is_fed_by_turns_and_no_more_often_than_it_needs(listening, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    manager = Manager(1.0)

    for _ in range(5):
        manager.turned("acting")

    assert told(listening) == ["WATCHDOG=1\nSTATUS=acting"]


def test_a_watchdog_shorter_than_three_turns_is_lengthened(listening, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")

    Manager(period_s=30.0).lengthen(45.0)

    assert told(listening) == ["WATCHDOG_USEC=90000000", "WATCHDOG_USEC=135000000"]


def test_nobody_is_told_where_nobody_listens(listening, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET")

    Manager(1.0).ready()

    assert told(listening) == []


def test_a_manager_that_is_gone_is_borne(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))

    Manager(1.0).ready()


def test_without_systemd_python_it_says_so(listening, monkeypatch):
    monkeypatch.setattr(module, "notify", None)

    with capture_logs() as log:
        Manager(1.0).ready()

    assert told(listening) == []
    assert "systemd-python is missing" in log[0]["why"]
