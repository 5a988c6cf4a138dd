# SPDX-License-Identifier: Apache-2.0

"""GPUs and network adapters are found on their nodes; screens, virtual functions and all else are not."""

import pytest

from numad_py.kernel import pci
from numad_py.topology import Device, DeviceKind

NVIDIA, ASPEED, MELLANOX = "0x10de", "0x1a03", "0x15b3"


@pytest.fixture
def plug(tmp_path):
    """Plug in a device; ``plug.root`` is the machine."""

    def device(address, *, virtual=False, **files):
        path = tmp_path / "sys/bus/pci/devices" / address
        path.mkdir(parents=True)
        for name, text in files.items():
            (path / name.rstrip("_")).write_text(text + "\n")
        if virtual:
            (path / "physfn").mkdir()

    device.root = tmp_path
    return device


def test_gpus_and_adapters_are_found_on_their_nodes(plug):
    plug("0000:41:00.0", class_="0x030200", vendor=NVIDIA, numa_node="8")
    plug("0000:02:00.0", class_="0x020700", vendor=MELLANOX, numa_node="0")
    plug("0000:00:00.0", class_="0x060000", vendor=NVIDIA, numa_node="0")

    assert pci.read_devices((0, 8), plug.root) == (
        Device("0000:02:00.0", DeviceKind.NIC, 0),
        Device("0000:41:00.0", DeviceKind.GPU, 8),
    )


@pytest.mark.parametrize("files", [{"numa_node": "-1"}, {}, {"numa_node": "5"}])
def test_a_node_that_is_not_told_or_not_on_line_is_none(plug, files):
    plug("0000:01:00.0", class_="0x020000", vendor=MELLANOX, **files)

    assert pci.read_devices((0,), plug.root) == (Device("0000:01:00.0", DeviceKind.NIC, None),)


def test_virtual_functions_and_devices_that_were_pulled_are_left_out(plug):
    plug("0000:01:00.0")
    plug("0000:01:00.1", class_="0x020000", vendor=MELLANOX, numa_node="0", virtual=True)
    plug("0000:01:00.2", class_="0x030000", vendor=ASPEED, numa_node="0")

    assert pci.read_devices((0,), plug.root) == ()


def test_a_machine_without_pci_has_no_devices(tmp_path):
    assert pci.read_devices((0,), tmp_path) == ()


@pytest.mark.parametrize(
    ("class_", "vendor", "kind"),
    [
        (0x020000, 0x15B3, DeviceKind.NIC),
        (0x0C0600, 0x15B3, DeviceKind.NIC),
        (0x030200, 0x10DE, DeviceKind.GPU),
        (0x030000, 0x1002, DeviceKind.GPU),
        (0x120000, 0x1002, DeviceKind.GPU),
        (0x030000, 0x1A03, None),
        (0x0C0330, 0x8086, None),
    ],
)
def test_a_class_says_what_a_device_is(class_, vendor, kind):
    assert pci.kind_of(class_, vendor) is kind


@pytest.mark.parametrize(
    "files",
    [
        {"class_": "", "vendor": NVIDIA},
        {"class_": "0x030200", "vendor": "10de"},
        {"class_": "0x030200", "vendor": NVIDIA, "numa_node": "one"},
    ],
)
def test_what_no_kernel_prints_is_refused(plug, files):
    plug("0000:01:00.0", **files)

    with pytest.raises(pci.Malformed):
        pci.read_devices((0,), plug.root)
