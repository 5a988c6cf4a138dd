# SPDX-License-Identifier: Apache-2.0

"""A guest whose root is the host's own file system, read-only, by virtme-ng."""

import os
import shlex
import sys
import sysconfig
from pathlib import Path

from tests.vm import access_counts
from tests.vm.bench import ROOT, Bench

PYTEST = [sys.executable, "-m", "pytest", "tests/vm"]


def prepare(bench: Bench, command: list[str]) -> None:
    """Lay out what inside.sh reads; everything has the same path on both sides."""
    search = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    bench.prepare(command, search=search)
    (bench.path / "cached").write_text("".join(f"{path}\n" for path in _cached_folders()))


def _cached_folders() -> list[str]:
    """Name what Python reads at every start."""
    candidates = [
        sys.prefix,
        sysconfig.get_path("stdlib"),
        f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
        *(str(ROOT / name) for name in ("numad_py", "tests", "bench")),
    ]
    return [path for path in candidates if Path(path).is_dir()]


def words(bench: Bench, kernel: Path) -> list[str]:
    """Give the command that boots the guest and runs what was laid out."""
    script = shlex.join(["sh", str(ROOT / "tests" / "vm" / "inside.sh"), str(bench.path)])
    return [*shell(bench, kernel), "--verbose", "--rwdir", str(bench.path), "--exec", script]


def shell(bench: Bench, kernel: Path) -> list[str]:
    """Give the command that boots the guest and gives a shell there."""
    guest = bench.guest
    # vng finds its own parts through PATH, and not every user's PATH has sbin.
    command = ["env", f"PATH={sys.prefix}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"]
    command += [str(Path(sys.prefix) / "bin" / "vng"), "--run", str(kernel), "--name", guest.name]
    # /dev/kvm can exist and hang. Without --force-9p, vng waits 5 s in vain for each folder's virtiofsd.
    command += ["--disable-kvm", "--force-9p", "--user", "root"]
    # Of 391 descriptors that QEMU would poll at every event of the machine, 384 are of its six serial ports.
    command.append("--qemu-opts=-global virtio-serial-pci.ioeventfd=off")
    command += ["--append", "cgroup.memory=nosocket,nobpf"]  # see inside.sh
    command += [*guest.hardware(), "--rodir", "/mnt=/", "--overlay-rwdir", "/var/log"]
    if guest.counted:
        command.append(f"--qemu-opts={access_counts.qemu_options(guest)}")
    return command
