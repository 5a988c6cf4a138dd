# SPDX-License-Identifier: Apache-2.0

"""What cannot be counted is explained in one sentence with what would help."""

import errno
import os

import pytest

from numad_py.kernel import perf_refusals


@pytest.fixture
def root(tmp_path):
    """Give a machine without counters of its CPU, where the kernel's setting is 2."""
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/perf_event_paranoid").write_text("2\n")
    (tmp_path / "sys/bus/event_source/devices/software").mkdir(parents=True)
    return tmp_path


def refused(number):
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_what_is_forbidden_names_the_setting_and_the_capability(number, root):
    why = perf_refusals.why(refused(number), root)

    assert "kernel.perf_event_paranoid is 2" in why
    assert "CAP_PERFMON" in why


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP])
def test_a_machine_without_counters_is_called_that(number, root):
    assert "this machine shows no CPU counters" in perf_refusals.why(refused(number), root)


@pytest.mark.parametrize("device", ["cpu", "cpu_core", "armv8_pmuv3_0", "armv8_neoverse_v2"])
def test_where_there_are_counters_the_event_is_what_is_missing(device, root):
    (root / "sys/bus/event_source/devices" / device).mkdir()

    assert "does not have it" in perf_refusals.why(refused(errno.ENOENT), root)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "raise LimitNOFILE"),
        (errno.ENFILE, "raise fs.file-max"),
        (errno.EBUSY, "end that profiler"),
        (errno.EINVAL, "refuses its code"),
        (errno.ENOSYS, "CONFIG_PERF_EVENTS"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_every_other_refusal_has_its_own_words(number, remedy, root):
    assert remedy in perf_refusals.why(refused(number), root)


def test_an_error_without_a_number_speaks_for_itself(root):
    assert perf_refusals.why(OSError("odd"), root) == "odd"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOENT, errno.EBADF])
def test_cgroups_that_are_not_counted_have_words_of_their_own(number, root):
    assert "CONFIG_CGROUP_PERF" in perf_refusals.why_no_cgroup(refused(number), root)


def test_cgroups_that_may_not_be_counted_are_forbidden_as_all_else(root):
    assert "CAP_PERFMON" in perf_refusals.why_no_cgroup(refused(errno.EACCES), root)


def test_a_kernel_without_any_of_it_is_no_error(tmp_path):
    assert perf_refusals.paranoid(tmp_path) == "not there"
    assert not perf_refusals.has_pmu(tmp_path)
