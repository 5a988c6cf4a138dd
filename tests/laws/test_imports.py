# SPDX-License-Identifier: Apache-2.0

"""Who may import whom is checked, and every check can fail."""

import sys

import pytest

DOWNWARDS = "Rooms depend downwards only"
ONE_DOOR = "Only the actuator can change the machine"
CTYPES = "ctypes stays in the kernel room"
PURE = "Policies decide; they do not look, wait, or act"
LIGHT = "The root process stays light"
CALIBRATES = "Only its own verb calibrates"
TRAINS = "Only its own verb trains"
NO_PICKLE = "A pickle is code, and this runs as root"

HEAVY = {"dask", "llvmlite", "numba", "plotly", "scipy", "sklearn", "torch"}
HEAVY_AFTER_IMPORTING_THE_DAEMON = f"""
import importlib, pkgutil, sys
import numad_py.cli.main
import numad_py.daemon
for module in pkgutil.walk_packages(numad_py.daemon.__path__, "numad_py.daemon."):
    importlib.import_module(module.name)
print(*sorted({HEAVY!r} & {{name.partition(".")[0] for name in sys.modules}}))
"""


def test_the_house_keeps_its_laws(house):
    contracts = house.contracts()

    assert contracts == dict.fromkeys(
        (DOWNWARDS, ONE_DOOR, CTYPES, PURE, LIGHT, CALIBRATES, TRAINS, NO_PICKLE), "KEPT"
    )


@pytest.mark.parametrize(
    ("law", "file", "line"),
    [
        (DOWNWARDS, "topology.py", "import numad_py.model"),
        (DOWNWARDS, "model.py", "import numad_py.roles"),
        (DOWNWARDS, "roles.py", "import numad_py.loop"),
        (DOWNWARDS, "kernel/__init__.py", "import numad_py.policies"),
        (DOWNWARDS, "policies/__init__.py", "import numad_py.guard"),
        (DOWNWARDS, "sense/__init__.py", "import numad_py.act"),
        (DOWNWARDS, "sim/__init__.py", "import numad_py.sense"),
        (DOWNWARDS, "a_module_without_a_place.py", ""),
        (ONE_DOOR, "daemon/__init__.py", "import numad_py.kernel.migration"),
        (ONE_DOOR, "sense/__init__.py", "from numad_py.kernel import migration"),
        (CTYPES, "act/__init__.py", "import ctypes.util"),
        (CTYPES, "daemon/__init__.py", "import ctypes"),
        (PURE, "guard/limits.py", "import random"),
        (PURE, "topology.py", "import time"),
        (PURE, "model.py", "import os"),
        (PURE, "policies/hold.py", "from time import monotonic"),
        (PURE, "roles.py", "import socket"),
        (DOWNWARDS, "daemon/__init__.py", "import numad_py.cli"),
        (DOWNWARDS, "calibrate/__init__.py", "import numad_py.act"),
        (DOWNWARDS, "machines.py", "import numad_py.sim"),
        (LIGHT, "daemon/__init__.py", "import sklearn.tree"),
        (LIGHT, "daemon/__init__.py", "import numba"),
        (LIGHT, "calibrate/site.py", "from numba import njit"),
        (CALIBRATES, "daemon/__init__.py", "import numad_py.calibrate.loops"),
        (LIGHT, "policies/learned.py", "import sklearn"),
        (TRAINS, "daemon/__init__.py", "import numad_py.learn.split"),
        (NO_PICKLE, "trace/__init__.py", "import pickle"),
    ],
)
def test_a_planted_violation_breaks_its_law_and_no_other(house, law, file, line):
    house.plant(f"numad_py/{file}", line)

    broken = [name for name, verdict in house.contracts().items() if verdict == "BROKEN"]

    assert broken == [law]


def test_the_daemon_imports_nothing_heavy(house):
    result = house.run(sys.executable, "-c", HEAVY_AFTER_IMPORTING_THE_DAEMON)

    assert (result.returncode, result.stdout.split()) == (0, []), result.stderr


def test_a_heavy_import_of_the_daemon_is_seen_however_it_comes_about(house):
    (house.root / "scipy.py").touch()
    house.plant("numad_py/daemon/__init__.py", "__import__('scipy')")

    result = house.run(sys.executable, "-c", HEAVY_AFTER_IMPORTING_THE_DAEMON)

    assert result.stdout.split() == ["scipy"], result.stderr
