# SPDX-License-Identifier: Apache-2.0

"""What users who flood the control socket cost the daemon, and how long root waits meanwhile.

``sudo .venv/bin/python bench/flood.py`` has three users, for ten seconds each, connect without end, send garbage,
and ask for the status. Needs root, who can be any user, and a cgroup v2 mount; changes nothing.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

USERS = range(60_000, 60_003)
SECONDS = 10.0
ASK = b'{"method":"io.numad.Control.Status"}\0'
FLOOD = """
import contextlib, os, socket, sys
folder, uid, kind = sys.argv[1:]
os.chdir(folder)
os.setgroups([])
os.setresuid(*[int(uid)] * 3)
words = {"connecting": b"", "garbage": os.urandom(1 << 16), "asking": sys.stdin.buffer.read() * 200}[kind]
while True:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect("control")
        client.sendall(words)
        while kind == "asking" and client.recv(1 << 16):
            pass
"""


@contextlib.contextmanager
def running(folder):
    """Run a daemon that observes; give its process."""
    (folder / "numad.yaml").write_text("mode: observe\n")
    folders = {name: str(folder) for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY")}
    command = [sys.executable, "-m", "numad_py", "daemon", "--config", folder / "numad.yaml"]
    with subprocess.Popen(command, env=os.environ | folders, stderr=subprocess.PIPE, text=True) as daemon:
        assert any("event=started" in line for line in daemon.stderr)
        time.sleep(5)  # its first looks are dearer
        yield psutil.Process(daemon.pid)
        daemon.terminate()


@contextlib.contextmanager
def flooded(folder, kind):
    """Have every user flood the socket."""
    with contextlib.ExitStack() as ended:
        for uid in USERS:
            command = [sys.executable, "-c", FLOOD, folder, str(uid), kind]
            flooder = ended.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            ended.callback(flooder.kill)
            flooder.stdin.write(ASK)
            flooder.stdin.close()
        time.sleep(1)
        yield


def answered_s(folder):
    """Give how long root waits for an answer."""
    began_s = time.monotonic()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{folder}/control")
        client.sendall(ASK)
        while not client.recv(1 << 16).endswith(b"\0"):
            pass
    return time.monotonic() - began_s


def measure(daemon, folder, kind):
    """Print a line of figures."""
    before, began_s, waits_s = daemon.cpu_times(), time.monotonic(), []
    while time.monotonic() < began_s + SECONDS:
        waits_s.append(answered_s(folder))
        time.sleep(0.5)
    used_s = sum(daemon.cpu_times()[:2]) - sum(before[:2])
    print(
        f"{kind:<12} {used_s / (time.monotonic() - began_s):.3f} of a core, root waited {max(waits_s) * 1e3:.0f} ms"
        f" at most, {daemon.memory_info().rss / 2**20:.1f} MB resident, {daemon.num_fds()} descriptors"
    )


def main():
    """Measure a daemon that is left alone, and one that is flooded."""
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as daemon:
        Path(name).chmod(0o755)
        measure(daemon, name, "left alone")
        for kind in ("connecting", "garbage", "asking"):
            with flooded(name, kind):
                measure(daemon, name, kind)
        measure(daemon, name, "left alone")


if __name__ == "__main__":
    main()
