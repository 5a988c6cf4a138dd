# SPDX-License-Identifier: Apache-2.0

"""A process's GPUs are those it is known to use, on machines of both makers, and doubt is no GPU."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from numad_py.kernel import nvml
from numad_py.model import ProcessKey
from numad_py.sense import gpus
from numad_py.sense.gpus import AGE_S, OPEN_PER_LOOK, Gpus, nodes_of
from numad_py.workers import Unfinished

RECORDED = Path(__file__).parents[2] / "recorded/gpu"
DGX, GB200, MI210 = (RECORDED / name for name in ("dgx-a100", "gb200", "mi210"))


def key(pid):
    return ProcessKey(pid, 7)


def nodes_by_address(root):
    files = (root / "sys/bus/pci/devices").glob("*/numa_node")
    return {path.parent.name: int(path.read_text()) for path in files}


def recorded_nvml(root):
    def lists():
        listed = json.loads((root / "nvml.json").read_text())
        return {
            f"{gpu['domain']:04x}:{gpu['bus']:02x}:{gpu['device']:02x}.0": frozenset(gpu["pids"])
            for gpu in listed
        }

    return lists


def no_nvml():
    raise nvml.Unanswered("the Python package nvidia-ml-py is not installed")


def of_machine(root, ask_nvml=no_nvml):
    return Gpus(nodes_by_address(root), root, ask_nvml)


def seen(sensor, *pids, now_s=0.0):
    return {key.pid: found for key, found in sensor.look([key(pid) for pid in pids], now_s).items()}


@pytest.fixture
def dgx(tmp_path):
    shutil.copytree(DGX, tmp_path / "dgx", symlinks=True)
    return tmp_path / "dgx"


def test_on_an_eight_gpu_server_nvml_tells_the_one_in_use_among_all_that_are_open():
    found = seen(of_machine(DGX, recorded_nvml(DGX)), 4001, 4002, 4003, 4004)

    assert found == {
        4001: ("0000:07:00.0",),
        4002: ("0000:b7:00.0",),
        4003: ("0000:07:00.0", "0000:0f:00.0"),
    }


def test_without_nvml_open_devices_count_where_one_node_has_them_all():
    found = seen(of_machine(DGX), 4001, 4002, 4003, 4004)

    assert found == {4001: ("0000:07:00.0",), 4003: ("0000:07:00.0", "0000:0f:00.0")}


def test_on_a_grace_machine_gpus_hang_on_the_nodes_that_have_cpus_not_on_their_own_memory():
    nodes = nodes_by_address(GB200)

    found = seen(of_machine(GB200, recorded_nvml(GB200)), *range(6001, 6006))

    assert {pid: nodes_of(of_it, nodes) for pid, of_it in found.items()} == {
        6001: (0,),
        6002: (0,),
        6003: (1,),
        6004: (1,),
        6005: (1,),
    }


def test_on_an_amd_server_a_queue_is_use_and_an_open_driver_is_none():
    nodes = nodes_by_address(MI210)

    found = seen(of_machine(MI210), 5001, 5002, 5003)

    assert found == {5001: ("0000:63:00.0",), 5003: ("0000:03:00.0", "0000:83:00.0")}
    assert nodes_of(found[5003], nodes) == (0, 1)


@pytest.mark.parametrize("machine", [DGX, GB200, MI210], ids=lambda path: path.name)
def test_every_gpu_of_a_recorded_machine_has_a_node(machine):
    nodes = nodes_by_address(machine)

    assert nodes
    assert all(nodes_of([gpu], nodes) for gpu in nodes)


def test_a_gpu_whose_node_is_not_known_adds_none():
    assert nodes_of(["a", "b", "c"], {"a": -1, "b": 3}) == (3,)


def test_nothing_is_said_of_a_machine_without_gpus(tmp_path):
    sensor = Gpus({}, tmp_path, no_nvml)

    assert seen(sensor, 1) == {}
    assert sensor.problems == {}


def test_why_nvml_did_not_answer_is_said():
    sensor = of_machine(DGX)

    seen(sensor, 4001)

    assert sensor.problems == {"nvml": "the Python package nvidia-ml-py is not installed"}


def test_nvml_that_hangs_is_left_to_itself_and_device_files_are_read():
    release = threading.Event()
    sensor = Gpus(nodes_by_address(DGX), DGX, lambda: release.wait() and {}, patience_s=0.01)

    found = seen(sensor, 4001)
    release.set()

    assert found == {4001: ("0000:07:00.0",)}
    assert sensor.problems == {"nvml": f"NVML: {Unfinished.STUCK.value}"}


def test_in_a_container_lists_are_not_believed_because_their_pids_are_others(dgx):
    (dgx / "proc/self/ns/pid").unlink()
    (dgx / "proc/self/ns/pid").symlink_to("pid:[4026532758]")
    sensor = of_machine(dgx, recorded_nvml(dgx))

    found = seen(sensor, 4001, 4002)

    assert found == {4001: ("0000:07:00.0",)}
    assert "container" in sensor.problems["nvml"]


def test_a_list_is_asked_again_only_when_it_is_old():
    asked = []
    sensor = of_machine(DGX, lambda: asked.append(1) or {"0000:07:00.0": frozenset({4001})})

    for now_s in (0.0, 1.0, AGE_S - 1, AGE_S):
        assert seen(sensor, 4001, now_s=now_s) == {4001: ("0000:07:00.0",)}

    assert len(asked) == 2


def test_a_pid_that_is_another_process_now_does_not_inherit_its_gpus():
    sensor = of_machine(DGX, recorded_nvml(DGX))
    seen(sensor, 4001)

    assert sensor.look([ProcessKey(4001, 8)], 1.0) == {}


def test_descriptors_of_a_few_processes_are_read_in_each_look_until_all_were(dgx):
    pids = list(range(5000, 5000 + 2 * OPEN_PER_LOOK))
    for pid in pids:
        (dgx / f"proc/{pid}/fd").mkdir(parents=True)
        (dgx / f"proc/{pid}/fd/3").symlink_to("/dev/nvidia0")
    sensor = of_machine(dgx)

    counts = [len(seen(sensor, *pids, now_s=now_s)) for now_s in (0.0, 1.0, 2.0)]

    assert counts == [OPEN_PER_LOOK, 2 * OPEN_PER_LOOK, 2 * OPEN_PER_LOOK]


def test_descriptors_are_read_again_when_what_is_known_is_old(dgx):
    sensor = of_machine(dgx)
    before = seen(sensor, 4004)
    (dgx / "proc/4004/fd/9").symlink_to("/dev/nvidia1")

    soon, later = seen(sensor, 4004, now_s=AGE_S - 1), seen(sensor, 4004, now_s=AGE_S)

    assert (before, soon, later) == ({}, {}, {4004: ("0000:4e:00.0",)})


def test_a_process_that_ended_has_none():
    assert seen(of_machine(DGX), 4999) == {}


def test_a_process_whose_descriptors_cannot_be_read_now_has_none(dgx):
    shutil.rmtree(dgx / "proc/4001/fd")
    (dgx / "proc/4001/fd").symlink_to("fd")

    assert seen(of_machine(dgx), 4001) == {}


def test_open_devices_are_forgotten_when_nvml_answers():
    installed = []
    sensor = of_machine(DGX, lambda: {} if installed else no_nvml())

    first = seen(sensor, 4001)
    installed.append("nvidia-ml-py")
    second = seen(sensor, 4001, now_s=AGE_S)

    assert (first, second) == ({4001: ("0000:07:00.0",)}, {})
    assert sensor.problems == {}


def test_descriptors_that_may_not_be_read_are_said_with_the_rights_that_are_missing(monkeypatch):
    def forbidden(pid, root):
        raise PermissionError

    monkeypatch.setattr(gpus.nvidia_files, "read_open", forbidden)
    sensor = of_machine(DGX)

    assert seen(sensor, 4001) == {}
    assert "CAP_SYS_PTRACE" in sensor.problems["descriptors"]


def test_a_driver_whose_files_are_not_understood_is_a_problem_not_a_crash(dgx):
    (dgx / "proc/driver/nvidia/gpus/0000:07:00.0/information").write_text("Model: none\n")
    sensor = of_machine(dgx)

    assert seen(sensor, 4001) == {}
    assert "no device minor" in sensor.problems["nvidia"]
