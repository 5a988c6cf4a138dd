# SPDX-License-Identifier: Apache-2.0

"""A copy of the house in which a law may be broken."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_VERDICT = re.compile(r"^(.+) (KEPT|BROKEN)(?: \(.* ignored imports\))?$", re.MULTILINE)


@dataclass(frozen=True)
class House:
    """A checkout: its code and its contracts."""

    root: Path

    def plant(self, file, line):
        """Add a line at the end of a file, which may be a new one."""
        with (self.root / file).open("a") as stream:
            stream.write(f"\n{line}\n")

    def run(self, *command):
        """Run a command in the checkout, whose package wins over an installed one."""
        environment = os.environ | {"PYTHONPATH": str(self.root), "COLUMNS": "200", "NO_COLOR": "1"}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

    def contracts(self):
        """Give every contract by name: KEPT or BROKEN."""
        lint_imports = Path(sys.executable).with_name("lint-imports")
        result = self.run(lint_imports, "--no-cache", "--no-logo")
        found = dict(_VERDICT.findall(result.stdout))
        assert found, result.stdout + result.stderr
        return found


@pytest.fixture
def house(tmp_path):
    shutil.copytree(ROOT / "numad_py", tmp_path / "numad_py", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return House(tmp_path)
