# SPDX-License-Identifier: Apache-2.0

"""The service may do what it needs and no more, as systemd itself judges."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from numad_py.daemon import reports
from numad_py.runtime import reporting

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "numad-py.service"
DROP_INS = sorted((SYSTEMD / "drop-ins").glob("*.conf"))
HIGHEST = {"gpu.conf": 1.6}
"""What `systemd-analyze security` may say with a drop-in; 1.5 for the others and for the base unit."""


def installed(folder, *drop_ins):
    """Lay out the unit with these drop-ins, its program being one that is here."""
    program = Path(sys.prefix) / "bin/numad-py"
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text().replace("ExecStart=/usr/bin/numad-py", f"ExecStart={program}"))
    (folder / f"{UNIT.name}.d").mkdir()
    for drop_in in drop_ins:
        shutil.copy(drop_in, folder / f"{UNIT.name}.d")
    return unit


def analyze(*words):
    command = ["systemd-analyze", "--no-pager", *words]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def capabilities(text, setting):
    return set(re.findall(r"CAP_\w+", " ".join(re.findall(f"(?m)^{setting}=(.*)$", text))))


@pytest.mark.parametrize("drop_ins", [[], *([each] for each in DROP_INS)], ids=str)
def test_the_unit_is_exposed_to_at_most_one_and_a_half_of_ten_and_with_a_drop_in_to_little_more(
    drop_ins, tmp_path, capsys
):
    told = analyze("security", "--offline=true", installed(tmp_path, *drop_ins))
    (figure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told)

    name = drop_ins[0].name if drop_ins else "no drop-in"
    with capsys.disabled():
        print(f"\n{analyze('--version').splitlines()[0]}: exposure with {name} {figure}")
    assert float(figure) <= HIGHEST.get(name, 1.5)


@pytest.mark.parametrize("drop_ins", [[], DROP_INS], ids=["base", "all"])
def test_systemd_finds_no_fault_in_the_unit_nor_in_the_drop_ins(drop_ins, tmp_path):
    assert analyze("verify", "--man=no", installed(tmp_path, *drop_ins)) == ""


def test_systemd_finds_no_fault_in_the_socket_of_the_metrics_and_it_goes_with_the_service(tmp_path):
    unit = installed(tmp_path)
    socket = Path(shutil.copy(SYSTEMD / "numad-py-metrics.socket", tmp_path))

    told = analyze("verify", "--man=no", socket)

    settings = dict(re.findall(r"(?m)^(\w+)=(.+)$", socket.read_text()))
    assert told == ""
    assert settings["PartOf"] == settings["WantedBy"] == settings["Service"] == unit.name


def test_systemd_finds_no_fault_in_the_socket_of_the_progress_and_it_ends_with_the_service(tmp_path):
    unit = installed(tmp_path)
    socket = Path(shutil.copy(SYSTEMD / "numad-py-progress.socket", tmp_path))

    told = analyze("verify", "--man=no", unit, socket)

    settings = dict(re.findall(r"(?m)^(\w+)=(.+)$", socket.read_text()))
    assert told == ""
    assert settings["BindsTo"] == settings["Service"] == unit.name
    assert f"Wants={socket.name}" in unit.read_text().splitlines()


def test_the_socket_of_the_progress_is_where_jobs_report_and_the_daemon_knows_it_by_its_name():
    settings = dict(re.findall(r"(?m)^(\w+)=(.+)$", (SYSTEMD / "numad-py-progress.socket").read_text()))

    assert settings["ListenDatagram"] == reporting.DEFAULT
    assert settings["FileDescriptorName"] == reports.NAME
    assert settings["SocketMode"] == "0666"


def policy_units(folder):
    """Lay out the units of a policy of others, its program being one that is here; give the socket and the service."""
    units = [folder / f"numad-py-policy{ending}" for ending in (".socket", "@.service")]
    for unit in units:
        text = (SYSTEMD / "policy" / unit.name).read_text()
        unit.write_text(text.replace("ExecStart=/usr/local/libexec/numad-py-policy", "ExecStart=/bin/cat"))
    return units


def test_systemd_finds_no_fault_in_the_units_of_a_policy_of_others(tmp_path):
    assert analyze("verify", "--man=no", *policy_units(tmp_path)) == ""


def test_a_policy_of_others_is_nobody_and_exposed_to_hardly_anything(tmp_path):
    socket, service = policy_units(tmp_path)

    told = analyze("security", "--offline=true", service)

    (figure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert float(figure) <= 0.3
    assert {"DynamicUser=yes", "CapabilityBoundingSet="} <= set(service.read_text().splitlines())
    assert {"SocketUser=numad-py", "SocketMode=0600"} <= set(socket.read_text().splitlines())


def test_the_base_unit_has_three_capabilities_and_none_of_them_is_the_one_that_means_root():
    text = UNIT.read_text()

    assert capabilities(text, "AmbientCapabilities") == {"CAP_PERFMON", "CAP_SYS_NICE", "CAP_SYS_PTRACE"}


@pytest.mark.parametrize("path", [UNIT, *DROP_INS], ids=lambda path: path.name)
def test_a_capability_that_is_given_is_one_that_may_be_held_and_no_other_may(path):
    text = path.read_text()

    assert capabilities(text, "AmbientCapabilities") == capabilities(text, "CapabilityBoundingSet")


@pytest.mark.parametrize("path", [UNIT, *DROP_INS], ids=lambda path: path.name)
def test_nothing_throttles_a_service_that_may_hold_a_job_s_lock(path):
    words = {line.partition("=")[0] for line in path.read_text().splitlines()}

    assert not words & {"CPUQuota", "CPUSchedulingPolicy", "MemoryHigh", "Nice"}
