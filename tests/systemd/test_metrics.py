# SPDX-License-Identifier: Apache-2.0

"""The metrics come out of a sandbox without network, for those who may read them, and no scrape starts the daemon."""

from pathlib import Path

import pytest

from tests.systemd.service import METRICS, NOW, install, write
from tests.systemd.typed import ask, sh, wait_for, wait_until

SOCKET = "numad-py-metrics.socket"
PORT = 9776
SCRAPE = f"python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{PORT}/metrics').read().decode())\""


@pytest.fixture(scope="module", autouse=True)
def _listening():
    """Let systemd listen on a port, as an operator would who knows what that means."""
    install(NOW)
    drop_in = Path(f"/etc/systemd/system/{SOCKET}.d/port.conf")
    write(drop_in, f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{PORT}\n")
    sh(f"systemctl daemon-reload; systemctl enable {SOCKET}; systemctl restart numad-py")
    yield
    sh(f"systemctl disable --now {SOCKET}")
    drop_in.unlink()


def scraped():
    """Give what a scrape gives, from the first turn on."""
    return wait_for("numad_turns_total", SCRAPE)


def test_the_file_is_for_its_group_and_for_nobody_else():
    wait_until("there is a file", METRICS.exists)

    assert sh(f"stat --format='%U:%G %a' {METRICS}") == "numad-py:numad-py 640\n"
    assert "Permission denied" in sh(f"setpriv --reuid=alice --clear-groups cat {METRICS}", status=1)


def test_a_port_that_systemd_opened_answers_out_of_a_sandbox_without_network():
    told = scraped()

    pid = sh("systemctl show --value --property=MainPID numad-py").strip()
    assert sh(f"readlink /proc/{pid}/ns/net") != sh("readlink /proc/1/ns/net")
    assert 'numad_not_acting{who="configuration",why="mode: observe"} 1.0\n' in told


def test_the_kernel_is_not_to_balance_the_daemons_own_memory():
    scraped()

    pid = sh("systemctl show --value --property=MainPID numad-py").strip()
    assert {line.split()[1] for line in sh(f"cat /proc/{pid}/numa_maps").splitlines()} == {"local"}


def test_a_scrape_does_not_start_a_daemon_that_was_stopped():
    scraped()

    sh("systemctl stop numad-py")
    status, refused = ask(SCRAPE)

    assert (status, "Connection refused" in refused, METRICS.exists()) == (1, True, False)
    sh(f"systemctl is-active numad-py {SOCKET}", status=3)
    sh("systemctl start numad-py")
    scraped()


def test_a_daemon_that_was_killed_comes_back_with_its_socket():
    scraped()

    sh("systemctl kill --signal=KILL numad-py")
    wait_for("NRestarts=1\n", "systemctl show --property=NRestarts numad-py")

    scraped()
