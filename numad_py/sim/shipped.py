# SPDX-License-Identifier: Apache-2.0

"""Find what is shipped in sim/ by its name: machines and scenarios."""

import sys
from pathlib import Path
from typing import Final

from numad_py.profile import ProfileError

_PLACES: Final = (Path(__file__).parents[2] / "sim", Path(sys.prefix) / "share/numad-py/sim")


def find(folder: str, name_or_path: str) -> Path:
    """Give the file of that name, also of a held scenario, or the path itself if it has a slash or the ending .yaml.

    Raises ProfileError, which names what there is.
    """
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix == ".yaml":
        return path
    files = {file.stem: file for place in reversed(_PLACES) for file in place.glob(f"{folder}/**/*.yaml")}
    if name_or_path not in files:
        raise ProfileError(
            f"there is nothing by the name of {name_or_path!r} in {folder}; there is "
            f"{', '.join(names(folder)) or 'nothing at all'}"
        )
    return files[name_or_path]


def names(folder: str) -> tuple[str, ...]:
    """Give the names that ``find`` knows."""
    return tuple(sorted({file.stem for place in _PLACES for file in place.glob(f"{folder}/*.yaml")}))
