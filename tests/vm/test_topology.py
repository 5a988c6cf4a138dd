# SPDX-License-Identifier: Apache-2.0

"""What ``numad-py look`` prints is what numactl and lstopo print of the same machine."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.guest("four-nodes", "eight-nodes")

FREE_TOLERANCE_MB = 64  # two programs ask one after the other


def printed(*command):
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def look(*options):
    return printed(sys.executable, "-m", "numad_py", "look", *options)


@pytest.fixture(scope="module")
def lines():
    """Give what look prints for people."""
    return look().splitlines()


@pytest.fixture(scope="module")
def values():
    """Give what look tells machines."""
    return json.loads(look("--json"))


@pytest.fixture(scope="module")
def lstopo():
    """Give lstopo's XML, with every PCI device."""
    return ET.fromstring(printed("lstopo-no-graphics", "--whole-io", "--of", "xml"))  # noqa: S314 - our own


def objects(lstopo, kind):
    return [each for each in lstopo.iter("object") if each.get("type") == kind]


def cpus_of(each):
    """Read a cpuset such as 0x00000001,0x00000003."""
    mask = int("".join(word.removeprefix("0x").rjust(8, "0") for word in each.get("cpuset").split(",")), 16)
    return [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]


def groups(lstopo, kind):
    return sorted(cpus_of(each) for each in objects(lstopo, kind))


def test_the_lines_of_numactl_are_printed(lines):
    theirs = printed("numactl", "-H").splitlines()

    for our, their in zip(lines[: len(theirs)], theirs, strict=True):
        if " free: " in their:
            assert our.split()[:3] == their.split()[:3]
            assert abs(int(our.split()[3]) - int(their.split()[3])) <= FREE_TOLERANCE_MB
        else:
            assert our == their


def test_sockets_caches_and_cores_are_lstopos(values, lstopo):
    last_level = max(each.get("type") for each in lstopo.iter("object") if "Cache" in each.get("type"))

    assert sorted(values["sockets"]) == groups(lstopo, "Package")
    assert sorted(values["llcs"]) == groups(lstopo, last_level)
    assert sorted(values["cores"]) == groups(lstopo, "Core")


def test_nodes_and_their_memory_are_lstopos(values, lstopo, guest):
    theirs = {int(each.get("os_index")): each for each in objects(lstopo, "NUMANode")}

    assert {node["id"]: node["total_bytes"] for node in values["nodes"]} == {
        id_: int(each.get("local_memory")) for id_, each in theirs.items()
    }
    # To a node without CPUs lstopo gives those that are near.
    assert {node["id"]: node["cpus"] for node in values["nodes"] if node["cpus"]} == {
        id_: cpus_of(theirs[id_]) for id_ in guest.with_cpus
    }


def test_adapters_are_lstopos(values, lstopo):
    theirs = [
        each.get("pci_busid") for each in objects(lstopo, "PCIDev") if each.get("pci_type").startswith("02")
    ]

    assert sorted(device["address"] for device in values["devices"] if device["kind"] == "nic") == sorted(
        theirs
    )


def test_the_picture_draws_every_node_once(lines, guest):
    picture = "\n".join(lines[lines.index("") :])

    for id_ in range(len(guest.nodes)):
        assert picture.count(f"node {id_}: ") == 1
    assert picture.count("socket ") == len(guest.with_cpus)


@pytest.mark.guest("eight-nodes")
def test_latency_and_bandwidth_are_those_of_the_firmware(values, guest):
    told = {node["id"]: (node["read_latency_ns"], node["read_mb_per_s"]) for node in values["nodes"]}

    assert told == {
        id_: (guest.latency_ns(guest.nearest(id_), id_), guest.mb_per_s(guest.nearest(id_), id_))
        for id_ in range(8)
    }


@pytest.mark.guest("eight-nodes")
def test_slower_memory_is_in_a_higher_tier(values):
    tiers = [node["tier"] for node in values["nodes"]]

    assert len(set(tiers[:4])) == 1
    assert min(tiers[4:]) > tiers[0]


@pytest.fixture
def cpu_7():
    """Give the file that takes a CPU off line; it is back at the end."""
    path = Path("/sys/devices/system/cpu/cpu7/online")
    yield path
    path.write_text("1")


@pytest.mark.guest("eight-nodes")
def test_the_daemon_goes_on_where_a_cpu_goes_off_line(daemon, cpu_7):
    service = daemon(mode="observe")

    cpu_7.write_text("0")

    assert "cpus=0-6" in service.wait_for("topology changed")
    assert "begin another trace" in service.wait_for("trace ended")
    assert service.stop() == 0
