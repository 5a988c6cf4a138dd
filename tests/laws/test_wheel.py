# SPDX-License-Identifier: Apache-2.0

"""Who installs us gets one importable name, and profiles, machines and traces beside it."""

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

import pytest

from numad_py import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Build the wheel and list what is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True
    )
    (wheel,) = folder.glob("*.whl")
    return ZipFile(wheel).namelist()


def test_the_only_top_level_name_of_the_wheel_is_the_package(files):
    tops = {name.partition("/")[0] for name in files}

    assert tops == {"numad_py", f"numad_py-{__version__}.dist-info", f"numad_py-{__version__}.data"}


@pytest.mark.parametrize("content", ["policies/*.yaml", "sim/machines/*.yaml", "sim/traces/*.jsonl.zst"])
def test_content_is_shipped_as_shared_data_and_not_inside_the_package(files, content):
    folder, _, pattern = content.rpartition("/")
    share = f"numad_py-{__version__}.data/data/share/numad-py/{folder}"

    shipped = [name for name in files if fnmatch(name, f"*/{content}")]

    assert shipped == [f"{share}/{path.name}" for path in sorted((ROOT / folder).glob(pattern))] != []
