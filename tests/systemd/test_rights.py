# SPDX-License-Identifier: Apache-2.0

"""The service with the base unit, with each drop-in, and with its capabilities taken away one at a time."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.systemd.jobs import label, late_bound
from tests.systemd.service import EXAMPLES, NOW, configure, drop_in, install, mark, wait_for_line
from tests.systemd.typed import sh
from tests.vm import observer
from tests.vm.running import PATIENCE_S

MOSTLY = 0.80  # Python itself has some 5 MiB where it first ran, and the job some 45 in all
BASE_EXPOSURE = 1.5  # at most; 10 is the worst
DROP_INS = sorted(path.stem for path in Path("systemd/drop-ins").glob("*.conf"))


@pytest.fixture(scope="module", autouse=True)
def _acting():
    install(NOW)
    configure("mode: act")
    sh("install --directory --owner=numad-py /srv/traces")  # as the drop-in for traces wants
    sh("sysctl kernel.perf_event_paranoid=2")  # at Debian's own 3 CAP_PERFMON is not enough


def exposure():
    """Give what systemd-analyze says of the unit as it is now."""
    said = sh("systemd-analyze --version | head -1; systemd-analyze --no-pager security numad-py.service")
    return float(said.partition("Overall exposure level for numad-py.service: ")[2].split()[0])


@contextmanager
def labelled(name):
    """Start a job, label it, and let it run where its memory is not."""
    with late_bound(name) as workload:
        label(name, "default")
        workload.tell("bind")
        yield workload


def test_the_unit_is_clean_and_hardly_exposed():
    sh("systemd-analyze verify --man=no numad-py.service")

    assert exposure() <= BASE_EXPOSURE
    assert "cap_sys_admin" not in sh("systemctl show --property=CapabilityBoundingSet numad-py")


@pytest.mark.parametrize("name", DROP_INS)
def test_with_a_drop_in_it_repairs_a_job_all_the_same(name):
    with drop_in(name, (EXAMPLES / f"{name}.conf").read_text()), labelled(name) as workload:
        sh("systemd-analyze verify --man=no numad-py.service")
        exposure()

        sh("systemctl restart numad-py")

        observer.wait_for_share(workload.pid, 1, MOSTLY, PATIENCE_S)


def without(capabilities):
    """Give a drop-in that takes capabilities away."""
    return f"[Service]\nAmbientCapabilities=~{capabilities}\nCapabilityBoundingSet=~{capabilities}\n"


@pytest.mark.parametrize(
    ("capability", "sentence"),
    [
        ("CAP_PERFMON", "forbidden (kernel.perf_event_paranoid is 2)"),
        ("CAP_SYS_NICE", "the affinity of other users' threads cannot be changed"),
    ],
)
def test_without_a_capability_it_says_what_that_costs_and_repairs_all_the_same(capability, sentence):
    with drop_in("without", without(capability)), labelled("poorer") as workload:
        since = mark()

        sh("systemctl restart numad-py")

        wait_for_line(sentence, since)
        observer.wait_for_share(workload.pid, 1, MOSTLY, PATIENCE_S)


@pytest.mark.parametrize(
    ("capabilities", "sentence"),
    [
        ("CAP_SYS_PTRACE", "the pages of other users' processes can neither be seen nor moved"),
        ("CAP_SYS_PTRACE CAP_SYS_NICE", 'not acting why="rights: neither CAP_SYS_PTRACE nor CAP_SYS_NICE"'),
    ],
)
def test_without_the_right_to_see_pages_it_says_so_and_moves_none(capabilities, sentence):
    with drop_in("without", without(capabilities)), labelled("unseen") as workload:
        since = mark()

        sh("systemctl restart numad-py")

        wait_for_line(sentence, since)
        wait_for_line("skipped", since, f"PID={workload.pid}")
        assert observer.anonymous_share(workload.pid, 0) > MOSTLY
