# SPDX-License-Identifier: Apache-2.0

"""What jobs say of their progress waits at a socket that systemd opened, and starts no daemon that was stopped."""

import pytest

from tests.systemd.service import NOW, install
from tests.systemd.typed import sh, wait_for

SOCKET = "numad-py-progress.socket"
SAY = """python3 -c "
import socket
for _ in range(100):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        said.sendto(b'1', socket.MSG_DONTWAIT, '/run/numad-py/progress')
" """


@pytest.fixture(scope="module", autouse=True)
def _installed():
    install(NOW)
    wait_for("active\nactive\n", f"systemctl is-active numad-py {SOCKET}")


def test_a_hundred_words_of_anybody_may_wait_at_once():
    pid = sh("systemctl show --value --property=MainPID numad-py").strip()
    sh(f"kill -STOP {pid}")
    try:
        sh(f"setpriv --reuid=alice --clear-groups {SAY}")
    finally:
        sh(f"kill -CONT {pid}")


@pytest.mark.parametrize("end", ["systemctl stop numad-py", "systemctl kill --kill-who=main numad-py"])
def test_a_word_does_not_start_a_daemon_that_was_ended(end):
    sh(end)
    wait_for("inactive\ninactive\n", f"systemctl is-active numad-py {SOCKET} || true")

    assert "FileNotFoundError" in sh(SAY, status=1)

    sh(f"systemctl is-active numad-py {SOCKET}", status=3)
    sh("systemctl start numad-py")


def test_a_daemon_that_was_killed_comes_back_with_its_socket():
    sh("systemctl kill --signal=KILL numad-py")
    wait_for("NRestarts=1\n", "systemctl show --property=NRestarts numad-py")

    wait_for("active\nactive\n", f"systemctl is-active numad-py {SOCKET}")
    sh(SAY)
