# SPDX-License-Identifier: Apache-2.0

"""A process uses an AMD GPU when it has a queue on it, and GPUs go by PCI address."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel import kfd
from tests.fake_root import FORBIDDEN

MI210 = Path(__file__).parents[2] / "recorded/gpu/mi210"
KFD = Path("sys/class/kfd/kfd")
PROPERTIES = (MI210 / KFD / "topology/nodes/2/properties").read_bytes()


@pytest.fixture
def machine(tmp_path):
    shutil.copytree(MI210 / "sys/class", tmp_path / "sys/class")
    return tmp_path


def test_gpus_have_addresses_and_nodes_of_cpus_are_none():
    gpus = kfd.read_gpus(MI210)

    assert len(gpus) == 8
    assert gpus[18199] == "0000:63:00.0"


def test_only_queues_count_not_an_open_device():
    processes = kfd.compute_processes(MI210)

    assert len(processes) == 8
    assert processes["0000:63:00.0"] == {5001}
    assert processes["0000:03:00.0"] == processes["0000:83:00.0"] == {5003}
    assert not any(5002 in pids for pids in processes.values())


def test_without_the_driver_nothing_is_there(tmp_path):
    assert not kfd.is_present(tmp_path)
    assert kfd.compute_processes(tmp_path) == {}


def test_with_it_kfd_is_present():
    assert kfd.is_present(MI210)


@pytest.mark.parametrize("name", ["gpu_id", "properties"])
def test_a_gpu_that_our_container_may_not_see_is_left_out(machine, name):
    forbidden = machine / KFD / "topology/nodes/2" / name
    forbidden.unlink()
    forbidden.symlink_to(FORBIDDEN)

    assert len(kfd.read_gpus(machine)) == 7


@pytest.mark.parametrize(
    ("domain", "location", "expected"),
    [
        pytest.param(0, 0x0A00, "0000:0a:00.0", id="whole"),
        pytest.param(1, 0x0B03, "0001:0b:00.0", id="part 3, in the function's bits, as an MI308X printed"),
        pytest.param(3, 0x3000_0008 | 0x0A00, "0003:0a:01.0", id="part 3, in the uppermost bits"),
        pytest.param(0x10000, 0x0500, "10000:05:00.0", id="a domain of five digits"),
    ],
)
def test_a_partitioned_gpu_has_the_address_of_the_whole(domain, location, expected):
    text = f"simd_count 416\nlocation_id {location}\ndomain {domain}\n".encode()

    assert kfd.address(text) == expected


def test_a_queue_that_is_destroyed_meanwhile_is_passed_over(machine):
    queues = machine / KFD / "proc/5003/queues"
    (queues / "0/gpuid").unlink()

    processes = kfd.compute_processes(machine)

    assert processes["0000:03:00.0"] == frozenset()
    assert processes["0000:83:00.0"] == {5003}


def test_an_error_that_is_no_sign_of_vanishing_is_raised(machine):
    gpuid = machine / KFD / "proc/5003/queues/0/gpuid"
    gpuid.unlink()
    gpuid.mkdir()

    with pytest.raises(IsADirectoryError):
        kfd.compute_processes(machine)


def test_a_queue_on_a_gpu_that_is_not_known_is_left_out(machine):
    (machine / KFD / "proc/5003/queues/0/gpuid").write_text("77")

    assert kfd.compute_processes(machine)["0000:03:00.0"] == frozenset()


def test_what_is_no_pid_is_no_process(machine):
    (machine / KFD / "proc/power").mkdir()

    assert kfd.compute_processes(machine) == kfd.compute_processes(MI210)


@pytest.mark.parametrize("missing", [b"domain", b"location_id"])
def test_properties_without_an_address_are_malformed(missing):
    with pytest.raises(kfd.Malformed):
        kfd.address(PROPERTIES.replace(missing, b"nothing"))


@pytest.mark.parametrize("text", [b"", b"-1", b"0x10", b"1 2", b"99999999999"])
def test_what_is_no_number_is_malformed(text):
    with pytest.raises(kfd.Malformed):
        kfd.number(text)


@given(
    st.binary(max_size=60)
    | st.tuples(st.integers(0, len(PROPERTIES)), st.binary(max_size=8)).map(
        lambda cut: PROPERTIES[: cut[0]] + cut[1] + PROPERTIES[cut[0] :]
    )
)
@pytest.mark.parametrize("parse", [kfd.address, kfd.number])
def test_no_bytes_raise_anything_but_malformed(parse, text):
    try:
        parse(text)
    except kfd.Malformed:
        return
