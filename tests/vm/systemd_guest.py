# SPDX-License-Identifier: Apache-2.0

"""A guest that is a machine of its own: a Debian of its own on a disk of its own, with systemd as process 1."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from numad_py import __version__
from tests.vm import systemd_image
from tests.vm.bench import BUILD, ROOT, Bench
from tests.vm.guests import Guest

# As fstab in tests/vm/systemd_root has it. The guest's own Python runs the tests: nothing of the host's is there.
_CHECKOUT, _FOLDER = Path("/checkout"), Path("/bench")
PYTEST = ["/usr/bin/python3", "-m", "pytest", "tests/systemd"]


def prepare(bench: Bench, command: list[str]) -> None:
    """Lay out what inside.service reads, and the package that is tried, twice: as it is, and as an older build."""
    bench.prepare(command, search="/usr/sbin:/usr/bin:/sbin:/bin", root=_CHECKOUT, folder=_FOLDER)
    subprocess.run(["make", "--silent", "deb"], cwd=ROOT, check=True)
    (built,) = (ROOT / "dist").glob(f"numad-py_{__version__}_*.deb")
    shutil.copy(built, bench.path / "now.deb")
    with tempfile.TemporaryDirectory(dir=bench.path) as work:
        _build_older(built, Path(work), bench.path / "before.deb")


def _build_older(package: Path, work: Path, older: Path) -> None:
    """Make the same package once more with a version that dpkg takes for older; not compressed, to be quick."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, work], check=True)
    control = work / "DEBIAN" / "control"
    control.write_text(re.sub("^(Version: .*)", r"\1~before", control.read_text(), flags=re.MULTILINE))
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", work, older], check=True)


def words(bench: Bench, kernel: Path) -> list[str]:
    """Give the command that boots the guest and runs what was laid out."""
    return _qemu(bench, kernel, "systemd.wants=inside.service")


def shell(bench: Bench, kernel: Path) -> list[str]:
    """Give the command that boots the guest and gives a shell there."""
    return _qemu(bench, kernel, "systemd.wants=console-getty.service")


def _qemu(bench: Bench, kernel: Path, wants: str) -> list[str]:
    disk = f"if=virtio,format=raw,snapshot=on,cache=unsafe,file={systemd_image.ensure(BUILD / 'images')}"
    command = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    # /dev/kvm can exist and hang.
    command += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", *_hardware(bench.guest)]
    command += ["-drive", disk, *_share(ROOT, "checkout", "on"), *_share(bench.path, "bench", "off")]
    command += ["-kernel", str(kernel), "-initrd", str(systemd_image.ensure_initrd(kernel))]
    # Without udev systemd would wait 90 s for the serial line's device; binfmt_misc is a module that is not there.
    masks = [f"systemd.mask={unit}.service" for unit in ("serial-getty@ttyS0", "systemd-binfmt")]
    return [*command, "-append", " ".join(["console=ttyS0", "systemd.unit=multi-user.target", *masks, wants])]


def _hardware(guest: Guest) -> Iterator[str]:
    """Give the options of QEMU that make this machine; see Guest.hardware."""
    cpus = sum(len(node.cpus) for node in guest.nodes)
    yield from ("-m", f"{sum(node.mib for node in guest.nodes)}M")
    yield from ("-smp", f"{cpus},sockets={len(guest.with_cpus)},threads={guest.threads}")
    for id_, node in enumerate(guest.nodes):
        yield from ("-object", f"memory-backend-ram,id=node{id_},size={node.mib}M")
        cpus_of = "".join(f",cpus={cpu}" for cpu in node.cpus)
        yield from ("-numa", f"node,nodeid={id_},memdev=node{id_}{cpus_of}")
    for source, row in enumerate(guest.distances):
        for target, distance in enumerate(row):
            yield from ("-numa", f"dist,src={source},dst={target},val={distance}")


def _share(path: Path, tag: str, readonly: str) -> list[str]:
    return ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,readonly={readonly}"]
