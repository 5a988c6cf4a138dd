# SPDX-License-Identifier: Apache-2.0

"""The guest with systemd is the machine that its tests build on."""

from pathlib import Path

from tests.systemd.jobs import LABEL, folder, label, late_bound
from tests.systemd.typed import sh
from tests.vm.guests import BY_NAME

GUEST = BY_NAME["systemd"]


def test_systemd_is_process_1_and_no_unit_has_failed():
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert sh("systemctl is-system-running --wait") == "running\n"


def test_it_has_the_nodes_of_the_table_and_the_kernel_balances_nothing():
    nodes = range(len(GUEST.nodes))
    rows = [Path(f"/sys/devices/system/node/node{node}/distance").read_text().split() for node in nodes]

    assert tuple(tuple(map(int, row)) for row in rows) == GUEST.distances
    assert Path("/proc/sys/kernel/numa_balancing").read_text() == "0\n"


def test_a_job_in_a_scope_takes_a_label_and_counts_its_memory_by_node():
    with late_bound("labelled", mb=32) as workload:
        label("labelled", "default")

        told = sh(f"getfattr --absolute-names --only-values --name={LABEL} {folder('labelled')}")
        charged = sh(f"grep ^anon {folder('labelled')}/memory.numa_stat")
        owner = Path(f"/proc/{workload.pid}").owner()

    assert told == "default"
    assert int(charged.split()[1].removeprefix("N0=")) > 32 << 20
    assert owner == "alice"
