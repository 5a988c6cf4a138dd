# SPDX-License-Identifier: Apache-2.0

"""The disk of a guest with systemd as process 1, and the initrd that finds it; made once, kept in build/guest."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.vm import packages

_ROOT = Path(__file__).parent / "systemd_root"  # what is added to Debian's files
_PACKAGES = (
    "attr",
    "dbus",
    "kmod",
    "numactl",
    "procps",
    "python3",
    "python3-pytest",
    "systemd",
    "systemd-sysv",
)
_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "9p", "9pnet_virtio", "autofs4")
_SIZE = "2G"  # sparse: about a tenth of it is written

_INIT = """\
#!/bin/busybox sh
set -e
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""


def ensure(images: Path) -> Path:
    """Give the disk; make it where there is none by this recipe."""
    image = images / f"systemd-{_recipe()}.ext4"
    if not image.exists():
        images.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=images) as work:
            _make(Path(work) / "tree", Path(work) / image.name)
            for older in images.glob("*.ext4"):
                older.unlink()
            (Path(work) / image.name).rename(image)  # only a complete one bears this name
    return image


def _recipe() -> str:
    """Give what tells one recipe from another."""
    added = (path.read_bytes() for path in sorted(_ROOT.rglob("*")) if path.is_file())
    return hashlib.sha256(b"\0".join((Path(__file__).read_bytes(), *added))).hexdigest()[:12]


def _make(tree: Path, image: Path) -> None:
    """Unpack Debian, add our files, put all of it on a disk; as root, to whom the files belong."""
    become = packages.as_root("the guest with systemd is made by root; see docs/guests.md")
    print("making a Debian with systemd: a minute", flush=True)
    debian = ["--variant=minbase", f"--keyring={packages.KEYRING}", f"--include={','.join(_PACKAGES)}"]
    for command in (
        ["debootstrap", *debian, "bookworm", tree, packages.MIRROR],
        ["cp", "--recursive", f"{_ROOT}/.", tree],
        ["rm", "--recursive", tree / "var/cache/apt", tree / "var/lib/apt/lists"],
        ["mkfs.ext4", "-q", "-d", tree, image, _SIZE],
        ["chown", f"{os.getuid()}:{os.getgid()}", image],
        ["rm", "--recursive", tree],
    ):
        with image.with_suffix(".log").open("ab") as log:
            subprocess.run([*become, *command], stdout=log, check=True)


def ensure_initrd(kernel: Path) -> Path:
    """Give the initrd for an unpacked kernel; make it where there is none."""
    initrd = kernel.with_name(kernel.name.replace("vmlinuz", "initrd"))
    if not initrd.exists():
        with tempfile.TemporaryDirectory() as work:
            made = gzip.compress(_initrd(kernel, Path(work)))
        initrd.write_bytes(made)
    return initrd


def _initrd(kernel: Path, tree: Path) -> bytes:
    """Pack busybox and the modules that lead to the disk and to the shares, in the order in which they load."""
    for folder in ("bin", "dev", "modules", "root"):
        (tree / folder).mkdir()
    shutil.copy("/bin/busybox", tree / "bin")
    for number, module in enumerate(_modules(kernel)):
        shutil.copy(module, tree / "modules" / f"{number:02}-{module.name}")
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    cpio = ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"]
    return subprocess.run(cpio, cwd=tree, input=names.encode(), stdout=subprocess.PIPE, check=True).stdout


def _modules(kernel: Path) -> list[Path]:
    """Give the files of the modules, each behind what it needs."""
    version = kernel.name.removeprefix("vmlinuz-")
    base = ["modprobe", "--dirname", str(kernel.parents[1]), "--set-version", version, "--show-depends"]
    shown = (
        subprocess.run([*base, name], check=True, capture_output=True, text=True).stdout for name in _MODULES
    )
    lines = (line.split() for text in shown for line in text.splitlines())
    return list(dict.fromkeys(Path(path) for word, path, *_ in lines if word == "insmod"))
