# SPDX-License-Identifier: Apache-2.0

"""The installed service: its files, and what it says in the journal."""

import time
from contextlib import contextmanager
from pathlib import Path

from tests.systemd.typed import sh, wait_for

NOW, BEFORE = "/bench/now.deb", "/bench/before.deb"
CONFIGURATION = Path("/etc/numad-py/numad.yaml")
METRICS = Path("/run/numad-py/metrics.prom")
PROFILES = Path("/etc/numad-py/policies")
BACK_OFFS = Path("/var/lib/numad-py/backoffs.json")
EXAMPLES = Path("/usr/share/doc/numad-py/examples")
DROP_INS = Path("/etc/systemd/system/numad-py.service.d")


def install(package):
    """Have that build on the machine as if it had never been there; it starts by itself, and observes."""
    sh(f"dpkg --purge numad-py; dpkg --install {package}")


def configure(*lines):
    """Write the configuration; it is read at the next start or reload."""
    write(CONFIGURATION, "".join(f"{line}\n" for line in lines))


def write(path, text):
    """Write a file, and show it."""
    print(f"\n# cat > {path}\n{text}", end="", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextmanager
def drop_in(name, text):
    """Add a drop-in to the unit, for the next start; take it out again at the end."""
    path = DROP_INS / f"{name}.conf"
    write(path, text)
    sh("systemctl daemon-reload")
    try:
        yield
    finally:
        path.unlink()
        sh("systemctl daemon-reload")


def mark():
    """Give a time, as journalctl takes it, after which to look; after a cursor it skips the first line of a filter."""
    return f"--since=@{time.time():.6f}"


def wait_for_line(word, *filters):
    """Wait until the journal has that word in a line of those fields."""
    return wait_for(word, f"journalctl --unit=numad-py --output=cat {' '.join(filters)}")
