# SPDX-License-Identifier: Apache-2.0

"""A policy of others runs by the units that are shipped: as nobody, for the daemon alone, and what it wishes is done."""

import re
from pathlib import Path

import pytest

from tests.systemd.jobs import label, late_bound
from tests.systemd.service import EXAMPLES, NOW, PROFILES, configure, wait_for_line, write
from tests.systemd.typed import sh
from tests.vm import observer
from tests.vm.running import PATIENCE_S

MOSTLY = 0.80
PROGRAM = Path("/usr/local/libexec/numad-py-policy")
UNITS = "numad-py-policy.socket numad-py-policy@.service"
INSTANCES = "'numad-py-policy@*.service'"
CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('/run/numad-py-policy')"

# Python takes seconds to start in a guest.
PROFILE = "policy: external\nparameters: {deadline_ms: 1000, patience: 20}\n"
EVERYTHING_TO_NODE_1 = """#!/usr/bin/python3
import json, sys

for line in sys.stdin:
    told = json.loads(line)
    if told["type"] == "tick":
        processes = [process for job in told["jobs"] for process in job["processes"]]
        wishes = [{"process": process["key"], "targets": [1]} for process in processes]
        print(json.dumps({"number": told["number"], "moves": wishes}), flush=True)
"""


@pytest.fixture(autouse=True)
def _installed():
    """Install what the page on writing a policy has an operator install."""
    sh(f"dpkg --status numad-py || dpkg --install {NOW}")
    write(PROGRAM, EVERYTHING_TO_NODE_1)
    PROGRAM.chmod(0o755)
    for unit in UNITS.split():
        sh(f"cp {EXAMPLES}/{unit} /etc/systemd/system")
    sh("systemctl daemon-reload; systemctl enable --now numad-py-policy.socket")
    write(PROFILES / "mine.yaml", PROFILE)
    configure("mode: act", "profiles: [default, mine]")
    sh("systemctl reload-or-restart numad-py")
    yield
    sh(f"systemctl disable --now numad-py-policy.socket; systemctl stop {INSTANCES}")
    PROGRAM.unlink()


def test_what_a_program_of_others_wishes_is_done_and_it_is_nobody():
    with late_bound("training") as training:
        label("training", "mine")

        observer.wait_for_share(training.pid, 1, MOSTLY, PATIENCE_S)

        pid = sh(f"systemctl show --value --property=MainPID {INSTANCES}").split()[-1]
        told = sh(f"cat /proc/{pid}/status")
        (uid,) = set(re.search(r"(?m)^Uid:\t(.+)$", told)[1].split())
        assert int(uid) not in (0, Path("/var/lib/numad-py").stat().st_uid)
        assert set(re.findall(r"Cap\w+:\t(\w+)", told)) == {"0" * 16}
        assert "Permission denied" in sh(
            f'setpriv --reuid=alice --clear-groups python3 -c "{CONNECT}"', status=1
        )

        sh(f"systemctl stop numad-py-policy.socket {INSTANCES}")
        wait_for_line("policy replaced", "PROFILE=mine")
        assert "profile mine: another policy stands in for its own" in sh("numad-py status")
