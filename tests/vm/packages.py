# SPDX-License-Identifier: Apache-2.0

"""What a guest is made of: Debian's packages on the host, Debian's kernels beside it.

Kernels are unpacked, never installed, and come through an apt of their own
(sources, lists, cache), so the host's apt and boot loader stay as they are.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

SYSTEM_PACKAGES = (
    "busybox-static",
    "cpio",
    "debian-archive-keyring",
    "debootstrap",
    "e2fsprogs",
    "file",
    "gcc",
    "hwloc-nox",
    "kmod",
    "libc6-dev",
    "numactl",
    "qemu-system-x86",
    "zstd",
)

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"
_SOURCES = f"""\
deb [signed-by={KEYRING}] {MIRROR} bookworm main
deb [signed-by={KEYRING}] {MIRROR} bookworm-backports main
deb [signed-by={KEYRING}] http://deb.debian.org/debian-security bookworm-security main
"""


def ensure_system_packages() -> None:
    """Install what is missing, or exit with one sentence that names it."""
    if platform.machine() != "x86_64" or not shutil.which("apt-get"):
        raise SystemExit("the guests need an x86-64 host with apt-get (Debian, Ubuntu); see docs/guests.md")
    missing = [name for name in SYSTEM_PACKAGES if not _is_installed(name)]
    if not missing:
        return
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    become = as_root(f"the guests need system packages; run: sudo {shlex.join(install)}")
    print(f"installing {' '.join(missing)}", flush=True)
    subprocess.run([*become, "apt-get", "update"], check=True)
    subprocess.run([*become, "env", "DEBIAN_FRONTEND=noninteractive", *install], check=True)


def _is_installed(name: str) -> bool:
    query = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name],
        check=False,
        capture_output=True,
        text=True,
    )
    return query.stdout == "installed"


def as_root(otherwise: str) -> list[str]:
    """Give the words that make a command run as root, or exit with a sentence where nothing does."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        return [sudo, "-n"]
    raise SystemExit(otherwise)


def ensure_kernel(series: str, kernels: Path) -> Path:
    """Give the image of the newest unpacked kernel of that series; fetch one where there is none."""
    unpacked = sorted(kernels.glob(f"{series}.*/boot/vmlinuz-*"), key=lambda image: image.stat().st_mtime)
    return unpacked[-1] if unpacked else _fetch_kernel(series, kernels)


def _fetch_kernel(series: str, kernels: Path) -> Path:
    apt = _private_apt(kernels / "apt")
    package = _newest_kernel(series, apt)
    version = package.removeprefix("linux-image-")
    print(f"fetching {package}", flush=True)
    work = kernels / f"work-{version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    subprocess.run(["apt-get", *apt, "download", package], cwd=work, check=True)
    (archive,) = work.glob("*.deb")
    subprocess.run(["dpkg", "--extract", archive, work], check=True)
    archive.unlink()
    subprocess.run(["depmod", "-b", work, version], check=True)
    tree = work.rename(kernels / version)  # only a complete tree bears this name
    return tree / "boot" / f"vmlinuz-{version}"


def _private_apt(home: Path) -> list[str]:
    """Give the options that keep apt inside ``home``, its lists brought up to date."""
    for part in ("lists/partial", "cache/archives/partial"):
        (home / part).mkdir(parents=True, exist_ok=True)
    (home / "sources.list").write_text(_SOURCES)
    places = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": home / "lists",
        "Dir::Cache": home / "cache",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "",
    }
    options = [word for key, value in places.items() for word in ("-o", f"{key}={value}")]
    print("asking deb.debian.org for kernels", flush=True)
    subprocess.run(["apt-get", *options, "--quiet", "update"], check=True)
    return options


def _newest_kernel(series: str, apt: list[str]) -> str:
    """Name the package that the newest linux-image-amd64 of that series stands for."""
    shown = subprocess.run(
        ["apt-cache", *apt, "show", "linux-image-amd64"], check=True, capture_output=True, text=True
    ).stdout
    names: list[str] = re.findall(
        rf"^Depends: (linux-image-{re.escape(series)}\.\S+-amd64)\b", shown, re.MULTILINE
    )
    if not names:
        raise SystemExit(f"deb.debian.org offers no linux-image-amd64 of series {series}; see docs/guests.md")
    return names[0]  # apt-cache shows the newest version first
