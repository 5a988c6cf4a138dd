# SPDX-License-Identifier: Apache-2.0

"""Capabilities are those that count for the whole machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import capabilities

WHOLE = "         0          0 4294967295\n"


def machine(root, mask, uid_map=WHOLE):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/uid_map").write_text(uid_map)
    (root / "proc/self/status").write_text(f"Name:\tx\nCapPrm:\t{mask:016x}\nCapEff:\t{mask:016x}\n")
    return root


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0, set()),
        (1 << 19 | 1 << 2, {"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}),
        (1 << 38, {"CAP_PERFMON"}),
        (1 << 12, set()),
    ],
)
def test_the_mask_is_read_bit_by_bit(tmp_path, mask, names):
    assert capabilities.effective(machine(tmp_path, mask)) == names


def test_in_a_user_namespace_none_counts(tmp_path):
    root = machine(tmp_path, (1 << 41) - 1, "         0       1000          1\n")

    assert capabilities.effective(root) == frozenset()


def test_the_live_kernel_is_read():
    assert capabilities.effective() <= set(capabilities.parse(b"CapEff:\t000001ffffffffff\n"))


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: b"CapEff:\t" + tail))
def test_no_bytes_raise_anything_but_malformed(text):
    try:
        capabilities.parse(text)
    except capabilities.Malformed:
        return
