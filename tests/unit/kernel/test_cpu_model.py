# SPDX-License-Identifier: Apache-2.0

"""The generation of any CPU is read off its cpuinfo."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import cpu_model
from numad_py.kernel.cpu_model import Cpu
from numad_py.kernel.pmu_events import row_of

X86 = """\
processor\t: 0
vendor_id\t: {}
cpu family\t: {}
model\t\t: {}
model name\t: {}
stepping\t: {}
microcode\t: 0x1
flags\t\t: fpu vme de pse tsc msr
"""
ARM64 = """\
processor\t: 71
BogoMIPS\t: 2000.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {}
CPU revision\t: 0
"""

# As public records show them, shortened to the lines that tell the CPU and those that could be taken for them.
RECORDED = {
    # TSUBAME 3 f-node, user's guide
    "Broadwell": (X86.format("GenuineIntel", 6, 79, "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 1), 79),
    # docs of a project that parses cpuinfo, Platinum 8380
    "Ice Lake": (X86.format("GenuineIntel", 6, 106, "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", 6), 106),
    # test data of two unrelated Go collectors, Platinum 8480+
    "Sapphire Rapids, Emerald Rapids, Granite Rapids": (
        X86.format("GenuineIntel", 6, 143, "Intel(R) Xeon(R) Platinum 8480+", 8),
        143,
    ),
    # an AMD SEV-ES development host with 256 threads
    "Zen 2": (X86.format("AuthenticAMD", 23, 49, "AMD EPYC 7742 64-Core Processor", 0), 49),
    # test data of a Go collector, "Milan"
    "Zen 3": (X86.format("AuthenticAMD", 25, 1, "AMD EPYC 7763 64-Core Processor", 1), 1),
    # a benchmark's record of a cloud host
    "Zen 4": (X86.format("AuthenticAMD", 25, 17, "AMD EPYC 9R14", 1), 17),
    # the machine of tests/recorded/one-node-6.18
    "Zen 5": (X86.format("AuthenticAMD", 26, 2, "AMD EPYC", 1), 2),
    # Ampere Altra, util-linux mailing list
    "Neoverse N1": (ARM64.format("0xd0c"), 0xD0C),
    # a 72-core machine, linux-arm-kernel mailing list
    "Neoverse V1, N2, V2, Grace": (ARM64.format("0xd4f"), 0xD4F),
}


@pytest.mark.parametrize(("name", "text", "model"), [(name, *rest) for name, rest in RECORDED.items()])
def test_recorded_cpus_are_found_in_the_table(name, text, model):
    cpu = cpu_model.parse(text.encode())

    assert cpu.model == model
    assert row_of(cpu).name == name


def test_the_first_of_several_cpus_counts():
    text = X86.format("GenuineIntel", 6, 79, "a", 1) + "\n" + X86.format("GenuineIntel", 6, 143, "b", 1)

    assert cpu_model.parse(text.encode()) == Cpu("GenuineIntel", 6, 79)


def test_a_cpu_nobody_knows_has_no_row():
    assert row_of(Cpu("GenuineIntel", 6, 42)) is None
    assert row_of(Cpu("CentaurHauls", 6, 79)) is None


def test_it_is_read_below_the_root(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(ARM64.format("0xd40"))

    assert cpu_model.read(tmp_path) == Cpu("0x41", 8, 0xD40)


@pytest.mark.parametrize("gone", ["vendor_id", "cpu family", "model\t\t"])
def test_a_cpuinfo_that_does_not_tell_is_refused(gone):
    text = RECORDED["Zen 3"][0].replace(gone, "unknown")

    with pytest.raises(cpu_model.Malformed):
        cpu_model.parse(text.encode())


@given(
    st.binary()
    | st.builds(
        lambda text, at, put: text[:at] + put + text[at:],
        st.sampled_from([text.encode() for text, _ in RECORDED.values()]),
        st.integers(0, 200),
        st.binary(max_size=8),
    )
)
def test_whatever_it_holds_is_a_cpu_or_refused(text):
    try:
        cpu = cpu_model.parse(text)
    except cpu_model.Malformed:
        return
    assert cpu.vendor.isprintable()
    assert 0 <= cpu.model <= 0xFFFF
