# SPDX-License-Identifier: Apache-2.0

"""A machine that is emulated is told from one that is virtual, and that from bare metal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import hypervisor
from numad_py.kernel.hypervisor import Host

BARE = "processor\t: 0\nmodel name\t: AMD EPYC 9575F 64-Core Processor\nflags\t\t: fpu vme\nbugs\t\t: hypervisor\n"
GUEST = BARE.replace("fpu vme", "fpu hypervisor vme")
ARM = "processor\t: 0\nBogoMIPS\t: 2000.00\nCPU implementer\t: 0x41\n"


def machine(root, cpuinfo, *, product=None, signature=b""):
    """Give what a machine with these files says it is."""
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    if product:
        (root / "sys/class/dmi/id").mkdir(parents=True)
        (root / "sys/class/dmi/id/product_name").write_text(f"{product}\n")
    return hypervisor.read(signature, root)


def test_bare_metal_is_neither_virtual_nor_emulated_whatever_that_leaf_of_cpuid_holds(tmp_path):
    host = machine(tmp_path, BARE, product="PowerEdge R760", signature=b"\x01\x02\0\0")

    assert host == Host("AMD EPYC 9575F 64-Core Processor", "PowerEdge R760", "", virtual=False)
    assert not host.emulator


def test_a_guest_under_kvm_is_virtual_and_its_times_are_those_of_hardware(tmp_path):
    host = machine(tmp_path, GUEST, product="Standard PC (Q35 + ICH9, 2009)", signature=b"KVMKVMKVM\0\0\0")

    assert (host.signature, host.virtual, host.emulator) == ("KVMKVMKVM", True, "")


def test_an_arm_guest_under_kvm_is_virtual(tmp_path):
    host = machine(tmp_path, ARM, product="KVM Virtual Machine")

    assert (host.cpu, host.virtual, host.emulator) == ("", True, "")


@pytest.mark.parametrize(
    ("cpuinfo", "product", "signature", "told"),
    [
        (GUEST, None, b"TCGTCGTCGTCG", "signature TCGTCGTCGTCG"),
        (GUEST.replace("AMD", "QEMU Virtual CPU version 2.5+ AMD"), None, b"", "QEMU Virtual CPU"),
        (BARE.replace("AMD", "QEMU TCG CPU version 2.5+ AMD"), None, b"", "QEMU TCG CPU"),
        (ARM, "QEMU Virtual Machine", b"", "its firmware calls it QEMU Virtual Machine"),
    ],
)
def test_an_emulator_is_named_by_its_witness(tmp_path, cpuinfo, product, signature, told):
    assert told in machine(tmp_path, cpuinfo, product=product, signature=signature).emulator


@given(st.binary(max_size=300))
def test_any_cpuinfo_is_read(text):
    model, _ = hypervisor.parse_cpuinfo(text)

    assert "\n" not in model
