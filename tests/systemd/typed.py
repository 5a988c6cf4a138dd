# SPDX-License-Identifier: Apache-2.0

"""What an operator types in a guest with systemd, shown as it would be on a terminal."""

import subprocess
import time

from tests.vm.running import PATIENCE_S


def sh(command, *, status=0):
    """Run a line of shell as root, show it and what it says, and give what it says."""
    print(f"\n# {command}", flush=True)
    found, said = ask(command)
    print(said, end="", flush=True)
    assert found == status, f"{command} ended with {found}, not {status}"
    return said


def ask(command):
    """Run a line of shell as root; give its status and what it says."""
    ran = subprocess.run(
        ["sh", "-c", command], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return ran.returncode, ran.stdout


def wait_for(word, command, *, limit_s=PATIENCE_S):
    """Repeat a line of shell until it says the word; show and give what it says then."""
    wait_until(f"{command}: {word}", lambda: word in ask(command)[1], limit_s=limit_s)
    return sh(command)


def wait_until(what, is_so, *, limit_s=PATIENCE_S):
    """Ask until it is so; show how long that took."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() < began_s + limit_s, f"not within {limit_s} s: {what}"
        time.sleep(1)
    print(f"\nafter {time.monotonic() - began_s:.0f} s: {what}", flush=True)
