# SPDX-License-Identifier: Apache-2.0

"""What tests in the guest with systemd share."""

import os

import pytest


def pytest_runtest_setup(item):
    if os.environ.get("NUMAD_VM_TESTS") != "systemd":
        pytest.skip("needs the guest with systemd; run `make vm`")
