# SPDX-License-Identifier: Apache-2.0

"""Which NVIDIA GPUs there are, and which a process holds open, is read from files alone, by PCI address."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import nvidia_files

DGX = Path(__file__).parents[2] / "recorded/gpu/dgx-a100"
INFORMATION = (DGX / "proc/driver/nvidia/gpus/0000:07:00.0/information").read_bytes()


def test_every_gpu_is_found_by_its_minor_number():
    gpus = nvidia_files.read_gpus(DGX)

    assert len(gpus) == 8
    assert gpus[2] == "0000:07:00.0"
    assert gpus[0] == "0000:47:00.0"


def test_without_the_driver_there_is_none(tmp_path):
    assert nvidia_files.read_gpus(tmp_path) == {}


def test_what_is_no_pci_address_is_no_gpu(tmp_path):
    (tmp_path / "proc/driver/nvidia/gpus/power").mkdir(parents=True)

    assert nvidia_files.read_gpus(tmp_path) == {}


@pytest.mark.parametrize(
    ("pid", "minors"),
    [
        pytest.param(4001, {2}, id="one, among pipes, sockets and the driver's other files"),
        pytest.param(4002, set(range(8)), id="all"),
        pytest.param(4003, {2, 3}, id="one whose file was made anew"),
        pytest.param(4004, set(), id="none"),
    ],
)
def test_open_gpus_are_those_of_a_processs_descriptors(pid, minors):
    assert nvidia_files.read_open(pid, DGX) == minors


def test_our_own_descriptors_are_read_from_the_live_kernel(tmp_path):
    (tmp_path / "dev").mkdir()
    descriptor = os.open(tmp_path / "dev", os.O_RDONLY)
    try:
        assert nvidia_files.read_open(os.getpid()) == frozenset()
    finally:
        os.close(descriptor)


def test_a_process_that_ended_is_gone():
    with pytest.raises(FileNotFoundError):
        nvidia_files.read_open(4999, DGX)


def test_a_descriptor_that_was_closed_meanwhile_is_passed_over(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert nvidia_files.link("7", folder) == ""
    finally:
        os.close(folder)


def test_no_more_descriptors_than_the_limit_are_looked_at(tmp_path, monkeypatch):
    folder = tmp_path / "proc/1/fd"
    folder.mkdir(parents=True)
    for number in range(10):
        (folder / str(number)).symlink_to(f"/dev/nvidia{number}")
    monkeypatch.setattr(nvidia_files, "MOST_DESCRIPTORS", 4)

    assert len(nvidia_files.read_open(1, tmp_path)) == 4


def test_a_gpu_without_a_minor_number_is_malformed():
    with pytest.raises(nvidia_files.Malformed):
        nvidia_files.minor(INFORMATION.replace(b"Device Minor", b"Device Major"))


@given(
    st.binary(max_size=100)
    | st.tuples(st.integers(0, len(INFORMATION)), st.binary(max_size=8)).map(
        lambda cut: INFORMATION[: cut[0]] + cut[1] + INFORMATION[cut[0] :]
    )
)
def test_no_bytes_raise_anything_but_malformed(text):
    try:
        assert nvidia_files.minor(text) >= 0
    except nvidia_files.Malformed:
        return
